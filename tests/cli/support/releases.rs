//! Binaries of other versions, keys and signatures for upgrade tests. A version of kedge is this binary with its version
//! text exchanged, which is what a release differs in at least; a stand-in is a small program that answers as kedge does
//! and then does something else than serve.

use super::{binary, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The version of the binary under test.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// What a stand-in does when it is to serve.
#[derive(Clone, Copy, Debug)]
pub enum Instead {
    Ends,
    Hangs,
    /// It does not accept the configuration, and is never to serve.
    Refuses,
    /// It makes the database one of a layout that nobody else knows, writes to the configuration, and ends.
    Raises,
}

/// A directory of releases with the key that signs them.
pub struct Releases {
    dir: PathBuf,
}

impl Releases {
    pub fn new(dir: &Path) -> Releases {
        fs::create_dir_all(dir).unwrap();
        let releases = Releases { dir: dir.to_owned() };
        releases.key("release");
        releases
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Makes a key and its public half, `NAME.key` and `NAME.pub`.
    pub fn key(&self, name: &str) -> String {
        let (key, public) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pub")));
        let make = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key];
        run("openssl", &make).assert_status(0);
        run("openssl", &["ec", "-in", &key, "-pubout", "-out", &public]).assert_status(0);
        public
    }

    pub fn public(&self) -> String {
        fs::read_to_string(self.path("release.pub")).unwrap()
    }

    /// Signs a file as `openssl` does; the signature lies beside it.
    pub fn sign(&self, file: &str, key: &str) {
        let (raw, signature) = (format!("{file}.raw"), format!("{file}.sig"));
        let key = self.path(&format!("{key}.key"));
        run("openssl", &["dgst", "-sha256", "-sign", &key, "-out", &raw, file]).assert_status(0);
        run("openssl", &["base64", "-in", &raw, "-out", &signature]).assert_status(0);
    }

    /// This binary as another version, of a text of the same length; signed.
    pub fn kedge(&self, version: &str) -> String {
        assert_eq!(version.len(), OWN.len(), "the text is exchanged in its place");
        let file = self.path(&format!("kedge-{version}"));
        let plain = self.path("plain");
        if !Path::new(&plain).exists() {
            run("strip", &["-o", &plain, binary()]).assert_status(0);
        }
        let mut bytes = fs::read(&plain).unwrap();
        let mut changed = 0;
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(OWN.len()).position(|window| window == OWN.as_bytes()) {
            at += found;
            bytes[at..at + OWN.len()].copy_from_slice(version.as_bytes());
            changed += 1;
        }
        assert!(changed > 0);
        self.put(&file, &bytes);
        let told = run(&file, &["version"]);
        assert!(told.stdout.starts_with(&format!("kedge {version} ")), "{told:?}");
        file
    }

    /// A small program that says it is this version, signed.
    pub fn stand_in(&self, version: &str, instead: Instead) -> String {
        let file = self.path(&format!("stand-in-{version}"));
        let source = format!("{file}.c");
        let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
        let (dry, serve) = match instead {
            Instead::Ends => ("return 0", "return 3"),
            Instead::Hangs => ("return 0", "for (;;) pause()"),
            Instead::Refuses => ("return fputs(\"no such key\\n\", stderr), 3", "return 3"),
            // SQLite keeps the number at byte 60 of its file.
            Instead::Raises => (
                "return 0",
                "FILE *d = fopen(\"/var/lib/kubeedge/edgecore.db\", \"r+\"); fseek(d, 60, SEEK_SET); \
                 fwrite(\"\\0\\0\\0\\11\", 1, 4, d); fclose(d); \
                 FILE *c = fopen(\"/etc/kubeedge/config/edgecore.yaml\", \"a\"); fputs(\"# raised\\n\", c); fclose(c); \
                 return 3",
            ),
        };
        let text = format!(
            "#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\nint main(int n, char **a) {{\n\
             if (n > 1 && !strcmp(a[1], \"version\")) return puts(\"{{\\\"kind\\\": \\\"Version\\\", \
             \\\"version\\\": \\\"{version}\\\", \\\"platform\\\": \\\"{platform}\\\"}}\"), 0;\n\
             for (int i = 1; i < n; i++) if (!strcmp(a[i], \"--dry-run\")) {dry};\n{serve};\n}}\n"
        );
        fs::write(&source, text).unwrap();
        run("gcc", &["-static", "-O1", "-o", &file, &source]).assert_status(0);
        self.sign(&file, "release");
        file
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        fs::write(file, bytes).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        self.sign(file, "release");
    }
}
