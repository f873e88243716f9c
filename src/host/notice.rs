//! Hears when files change (inotify). Followers of container logs wait with it instead of asking again and again.
//! A notice says only "look again".

use super::descriptor::Descriptor;
use rustix::fs::inotify;
use std::io;
use std::path::Path;

/// Notices of one or more watched paths.
pub struct Notices(Descriptor);

impl Notices {
    pub fn new() -> io::Result<Notices> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        Descriptor::new(fd).map(Notices)
    }

    /// Adds a file (its content grows) or a directory (entries come and go).
    pub fn watch(&self, path: &Path) -> io::Result<()> {
        use inotify::WatchFlags as Flags;
        let flags = Flags::MODIFY | Flags::CREATE | Flags::MOVED_TO | Flags::DELETE | Flags::DELETE_SELF;
        inotify::add_watch(self.0.fd(), path, flags)?;
        Ok(())
    }

    /// Completes when something changed since the last call; takes all waiting notices at once. Cancel-safe.
    pub async fn next(&self) -> io::Result<()> {
        let mut buffer = [0_u8; 4096];
        self.0.read(|fd| Ok(rustix::io::read(fd, &mut buffer)?)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn a_written_file_gives_notice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "a").unwrap();
        let notices = Notices::new().unwrap();
        notices.watch(&path).unwrap();
        fs::write(&path, "ab").unwrap();
        notices.next().await.unwrap();
    }
}
