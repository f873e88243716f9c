//! Two tiny static programs for the images that kedge brings, as machine code: `pause` holds a pod's namespaces, `demo`
//! also prints a line every five seconds. Both are one loop and differ in their data alone. `images.rs` packs them.
//!
//! The loop: ignore SIGCHLD (so that orphans of a shared process namespace are reaped), block SIGTERM and SIGINT (the
//! kernel drops unblocked ones for a process with id 1), write the line, wait for a signal; on time-out or interruption
//! begin again, on a signal exit with 0.

/// A processor that the programs exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// The machine that this process runs on, where it is one of the two.
    pub fn here() -> Option<Machine> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::Aarch64),
            _ => None,
        }
    }

    /// The word for it in image configurations.
    pub fn image_word(self) -> &'static str {
        match self {
            Machine::X86_64 => "amd64",
            Machine::Aarch64 => "arm64",
        }
    }
}

/// The program that waits until it is told to end.
pub fn pause(machine: Machine) -> Vec<u8> {
    const FAR_AWAY: i64 = 1 << 30;
    elf(machine, b"", FAR_AWAY)
}

/// The program that prints a line every five seconds.
pub fn demo(machine: Machine) -> Vec<u8> {
    elf(machine, b"hello from kedge\n", 5)
}

const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

fn elf(machine: Machine, line: &[u8], seconds: i64) -> Vec<u8> {
    let (code, number) = match machine {
        Machine::X86_64 => (x86_64(line.len()), 62_u16),
        Machine::Aarch64 => (aarch64(line.len()), 183_u16),
    };
    let data = data(line, seconds);
    let size = HEADERS + code.len() as u64 + data.len() as u64;
    let mut out = Vec::new();
    // ELF header: 64-bit, little endian, System V, executable.
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend_from_slice(&2_u16.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&(BASE + HEADERS).to_le_bytes()); // entry
    out.extend_from_slice(&64_u64.to_le_bytes()); // program headers follow
    out.extend_from_slice(&0_u64.to_le_bytes()); // no sections
    out.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    // One loaded segment, readable and executable.
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&5_u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&code);
    out.extend_from_slice(&data);
    out
}

/// Offsets in `data`.
const SIGACTION: usize = 0;
const MASK: usize = 32;
const TIMEOUT: usize = 40;
const LINE: usize = 56;

fn data(line: &[u8], seconds: i64) -> Vec<u8> {
    const SIG_IGN: u64 = 1;
    const TERM_AND_INT: u64 = 1 << (15 - 1) | 1 << (2 - 1);
    let mut data = Vec::new();
    for word in [SIG_IGN, 0, 0, 0, TERM_AND_INT] {
        data.extend_from_slice(&word.to_le_bytes());
    }
    data.extend_from_slice(&seconds.to_le_bytes());
    data.extend_from_slice(&0_i64.to_le_bytes());
    data.extend_from_slice(line);
    data
}

/// The data stands right behind the code, so its addresses need the code's length.
const X86_64_LENGTH: usize = 121;

fn x86_64(line: usize) -> Vec<u8> {
    let mut code: Vec<u8> = Vec::new();
    // lea REGISTER, [rip + distance to the data]
    let lea = |code: &mut Vec<u8>, register: u8, offset: usize| {
        let distance = (X86_64_LENGTH + offset - (code.len() + 7)) as u32;
        code.extend_from_slice(&[0x48, 0x8d, register]);
        code.extend_from_slice(&distance.to_le_bytes());
    };
    code.extend_from_slice(b"\xbf\x11\x00\x00\x00"); // mov edi, 17 (SIGCHLD)
    lea(&mut code, 0x35, SIGACTION); // rsi
    code.extend_from_slice(b"\x31\xd2"); // xor edx, edx
    code.extend_from_slice(b"\x41\xba\x08\x00\x00\x00"); // mov r10d, 8
    code.extend_from_slice(b"\xb8\x0d\x00\x00\x00\x0f\x05"); // mov eax, 13 (rt_sigaction); syscall
    code.extend_from_slice(b"\x31\xff"); // xor edi, edi (SIG_BLOCK)
    lea(&mut code, 0x35, MASK); // rsi
    code.extend_from_slice(b"\x31\xd2"); // xor edx, edx
    code.extend_from_slice(b"\x41\xba\x08\x00\x00\x00"); // mov r10d, 8
    code.extend_from_slice(b"\xb8\x0e\x00\x00\x00\x0f\x05"); // mov eax, 14 (rt_sigprocmask); syscall
    let again = code.len();
    code.extend_from_slice(b"\xbf\x01\x00\x00\x00"); // mov edi, 1 (stdout)
    lea(&mut code, 0x35, LINE); // rsi
    code.push(0xba); // mov edx, length of the line
    code.extend_from_slice(&(line as u32).to_le_bytes());
    code.extend_from_slice(b"\xb8\x01\x00\x00\x00\x0f\x05"); // mov eax, 1 (write); syscall
    lea(&mut code, 0x3d, MASK); // rdi
    code.extend_from_slice(b"\x31\xf6"); // xor esi, esi
    lea(&mut code, 0x15, TIMEOUT); // rdx
    code.extend_from_slice(b"\x41\xba\x08\x00\x00\x00"); // mov r10d, 8
    code.extend_from_slice(b"\xb8\x80\x00\x00\x00\x0f\x05"); // mov eax, 128 (rt_sigtimedwait); syscall
    code.extend_from_slice(b"\x85\xc0\x0f\x88"); // test eax, eax; js again
    let back = (again as i32) - (code.len() as i32 + 4);
    code.extend_from_slice(&back.to_le_bytes());
    code.extend_from_slice(b"\x31\xff\xb8\xe7\x00\x00\x00\x0f\x05"); // xor edi, edi; mov eax, 231 (exit_group); syscall
    code
}

const AARCH64_LENGTH: usize = 27 * 4;

fn aarch64(line: usize) -> Vec<u8> {
    const SVC: u32 = 0xd400_0001;
    let movz = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    // adr REGISTER, data + offset, as seen from instruction `at`
    let adr = |register: u32, at: usize, offset: usize| {
        let distance = (AARCH64_LENGTH + offset - at * 4) as u32;
        0x1000_0000 | (distance & 3) << 29 | (distance >> 2) << 5 | register
    };
    const AGAIN: usize = 12;
    // tbnz x0, #63: back to `again` when the answer is negative
    let tbnz_back = |at: usize| {
        let words = (AGAIN as i32 - at as i32) as u32 & 0x3fff;
        0xb7f8_0000 | words << 5
    };
    let words = [
        movz(0, 17), // SIGCHLD
        adr(1, 1, SIGACTION),
        movz(2, 0),
        movz(3, 8),
        movz(8, 134), // rt_sigaction
        SVC,
        movz(0, 0), // SIG_BLOCK
        adr(1, 7, MASK),
        movz(2, 0),
        movz(3, 8),
        movz(8, 135), // rt_sigprocmask
        SVC,
        movz(0, 1), // again: stdout
        adr(1, 13, LINE),
        movz(2, line as u32 & 0xffff),
        movz(8, 64), // write
        SVC,
        adr(0, 17, MASK),
        movz(1, 0),
        adr(2, 19, TIMEOUT),
        movz(3, 8),
        movz(8, 137), // rt_sigtimedwait
        SVC,
        tbnz_back(23),
        movz(0, 0),
        movz(8, 94), // exit_group
        SVC,
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::{Command, Stdio};

    #[test]
    fn the_stated_code_lengths_are_true() {
        assert_eq!(x86_64(3).len(), X86_64_LENGTH);
        assert_eq!(aarch64(3).len(), AARCH64_LENGTH);
    }

    #[test]
    fn addresses_in_the_arm_code_point_at_the_data() {
        let code = aarch64(0);
        let word = |at: usize| u32::from_le_bytes(code[at * 4..at * 4 + 4].try_into().unwrap());
        let target = |at: usize| at as u32 * 4 + ((word(at) >> 5 & 0x7_ffff) << 2 | word(at) >> 29 & 3);
        assert_eq!(target(7), (AARCH64_LENGTH + MASK) as u32);
        assert_eq!(target(13), (AARCH64_LENGTH + LINE) as u32);
        // tbnz at 23 jumps eleven instructions back.
        assert_eq!((word(23) >> 5 & 0x3fff) as i32 - 0x4000, -11);
    }

    #[test]
    fn the_program_runs_prints_and_ends_on_the_stop_signal() {
        let Some(machine) = Machine::here() else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo");
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o755)
            .open(&path)
            .unwrap();
        file.write_all(&demo(machine)).unwrap();
        drop(file);
        let mut child = Command::new(&path).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "hello from kedge\n");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
