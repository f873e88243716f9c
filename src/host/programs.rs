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
    Arm,
    Riscv64,
}

impl Machine {
    /// The machine that this process runs on, where it is one of them.
    pub fn here() -> Option<Machine> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::Aarch64),
            "arm" => Some(Machine::Arm),
            "riscv64" => Some(Machine::Riscv64),
            _ => None,
        }
    }

    /// The word for it in image configurations.
    pub fn image_word(self) -> &'static str {
        match self {
            Machine::X86_64 => "amd64",
            Machine::Aarch64 => "arm64",
            Machine::Arm => "arm",
            Machine::Riscv64 => "riscv64",
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

fn elf(machine: Machine, line: &[u8], seconds: i64) -> Vec<u8> {
    // Machine number and flags: ARM's kernel wants to be told version 5 of its conventions.
    let (code, number, flags) = match machine {
        Machine::X86_64 => (x86_64(line.len()), 62_u16, 0_u32),
        Machine::Aarch64 => (aarch64(line.len()), 183, 0),
        Machine::Arm => (arm(line.len()), 40, 0x0500_0000),
        Machine::Riscv64 => (riscv64(line.len()), 243, 0),
    };
    let wide = machine != Machine::Arm;
    // Class, and the sizes of the header and of an entry in the tables of programs and of sections.
    let (class, header, entry, section) = if wide { (2, 64_u16, 56_u16, 64_u16) } else { (1, 52, 32, 40) };
    let headers = u64::from(header + entry);
    let data = data(line, seconds);
    let size = headers + code.len() as u64 + data.len() as u64;
    let mut out = Vec::new();
    let word = |out: &mut Vec<u8>, value: u64| {
        let bytes = value.to_le_bytes();
        out.extend_from_slice(if wide { &bytes } else { &bytes[..4] });
    };
    // ELF header: little endian, System V, executable.
    out.extend_from_slice(b"\x7fELF");
    out.extend_from_slice(&[class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&2_u16.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&1_u32.to_le_bytes());
    word(&mut out, BASE + headers); // entry
    word(&mut out, header.into()); // program headers follow
    word(&mut out, 0); // no sections
    out.extend_from_slice(&flags.to_le_bytes());
    for half in [header, entry, 1, section, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    // One loaded segment, readable and executable; its rights stand second or second to last.
    const RIGHTS: [u8; 4] = 5_u32.to_le_bytes();
    out.extend_from_slice(&1_u32.to_le_bytes());
    if wide {
        out.extend_from_slice(&RIGHTS);
    }
    for value in [0, BASE, BASE, size, size] {
        word(&mut out, value);
    }
    if !wide {
        out.extend_from_slice(&RIGHTS);
    }
    word(&mut out, 0x1_0000);
    out.extend_from_slice(&code);
    out.extend_from_slice(&data);
    out
}

/// Offsets in `data`.
const SIGACTION: usize = 0;
const MASK: usize = 32;
const TIMEOUT: usize = 40;
const LINE: usize = 56;

/// The same for machines of 32 bits: they read the lower half of the first word and of the time, and zeros behind both.
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

const ARM_LENGTH: usize = 28 * 4;

fn arm(line: usize) -> Vec<u8> {
    const SVC: u32 = 0xef00_0000;
    let mov = |register: u32, value: u32| 0xe3a0_0000 | register << 12 | value & 0xff;
    // add REGISTER, pc, #distance; the program counter is two instructions ahead
    let adr = |register: u32, at: usize, offset: usize| {
        0xe28f_0000 | register << 12 | (ARM_LENGTH + offset - (at + 2) * 4) as u32
    };
    const AGAIN: usize = 12;
    let bmi_back = |at: usize| 0x4a00_0000 | (AGAIN as i32 - (at as i32 + 2)) as u32 & 0xff_ffff;
    let words = [
        mov(0, 17), // SIGCHLD
        adr(1, 1, SIGACTION),
        mov(2, 0),
        mov(3, 8),
        mov(7, 174), // rt_sigaction
        SVC,
        mov(0, 0), // SIG_BLOCK
        adr(1, 7, MASK),
        mov(2, 0),
        mov(3, 8),
        mov(7, 175), // rt_sigprocmask
        SVC,
        mov(0, 1), // again: stdout
        adr(1, 13, LINE),
        mov(2, line as u32),
        mov(7, 4), // write
        SVC,
        adr(0, 17, MASK),
        mov(1, 0),
        adr(2, 19, TIMEOUT),
        mov(3, 8),
        mov(7, 177), // rt_sigtimedwait
        SVC,
        0xe350_0000, // cmp r0, #0
        bmi_back(24),
        mov(0, 0),
        mov(7, 248), // exit_group
        SVC,
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

const RISCV64_LENGTH: usize = 32 * 4;

fn riscv64(line: usize) -> Vec<u8> {
    const ECALL: u32 = 0x73;
    const A7: u32 = 17;
    // addi REGISTER, BASE, value; from register 0 it is the value itself
    let addi = |register: u32, base: u32, value: u32| value << 20 | base << 15 | register << 7 | 0x13;
    let li = |register: u32, value: u32| addi(register, 0, value);
    // auipc REGISTER, 0; addi REGISTER, REGISTER, distance
    let here = |register: u32| register << 7 | 0x17;
    let to = |register: u32, at: usize, offset: usize| {
        addi(register, register, (RISCV64_LENGTH + offset - at * 4) as u32)
    };
    const AGAIN: usize = 14;
    // blt a0, zero: back to `again` when the answer is negative
    let bltz_back = |at: usize| {
        let distance = ((AGAIN as i32 - at as i32) * 4) as u32;
        let (sign, eleventh, middle, low) =
            (distance >> 12 & 1, distance >> 11 & 1, distance >> 5 & 0x3f, distance >> 1 & 0xf);
        sign << 31 | middle << 25 | 10 << 15 | 4 << 12 | low << 8 | eleventh << 7 | 0x63
    };
    let words = [
        li(10, 17), // SIGCHLD
        here(11),
        to(11, 1, SIGACTION),
        li(12, 0),
        li(13, 8),
        li(A7, 134), // rt_sigaction
        ECALL,
        li(10, 0), // SIG_BLOCK
        here(11),
        to(11, 8, MASK),
        li(12, 0),
        li(13, 8),
        li(A7, 135), // rt_sigprocmask
        ECALL,
        li(10, 1), // again: stdout
        here(11),
        to(11, 15, LINE),
        li(12, line as u32),
        li(A7, 64), // write
        ECALL,
        here(10),
        to(10, 20, MASK),
        li(11, 0),
        here(12),
        to(12, 23, TIMEOUT),
        li(13, 8),
        li(A7, 137), // rt_sigtimedwait
        ECALL,
        bltz_back(28),
        li(10, 0),
        li(A7, 94), // exit_group
        ECALL,
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
        assert_eq!(arm(3).len(), ARM_LENGTH);
        assert_eq!(riscv64(3).len(), RISCV64_LENGTH);
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

    /// These bytes ran under qemu's emulation of each processor; where they change, they want another try there.
    #[test]
    fn the_programs_are_those_that_were_tried_on_each_processor() {
        let tried = [
            (Machine::X86_64, "5ba4b4af021aa0b37ed4cdcc5a00c79374fcb55e19c90cad3de84f0bf313b695"),
            (Machine::Aarch64, "aa89d1933ffaefd9c4f5a0b8ff23aae8c2df195e4a91d607a0d4bc3904638c08"),
            (Machine::Arm, "743eda4d64c86e3b1b765fcadb60446090f2f7094ee73ceed81a4f1c33c610cf"),
            (Machine::Riscv64, "b095f81c3c44148368adc072ec109568718e9b30d0a65627734fae94ddcea83e"),
        ];
        for (machine, digest) in tried {
            let own = ring::digest::digest(&ring::digest::SHA256, &demo(machine));
            let own: String = own.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(own, digest, "{machine:?}");
        }
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
