//! A disk that is soon full.
//!
//! Where this process may mount, it is a file system in memory of the wanted size, on which writes fail as on any full
//! disk. Elsewhere (an ordinary user, a container) it is a limit on the length of every file, which the kernel enforces
//! for anybody: writes fail there as well, under another name.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder on a small disk. Gone, with what is in it, when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    /// The folder.
    pub path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Mounted,
    Limited { file_bytes_max: u64 },
    Roomy,
}

impl SmallDisk {
    /// A disk of `bytes` at `path`. Files on it reach at most `file_bytes_max`, where it cannot be mounted.
    pub fn new(path: &Path, bytes: u64, file_bytes_max: u64) -> Result<SmallDisk> {
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        let kind = match mount(path, &format!("size={bytes}")) {
            true => Kind::Mounted,
            false => Kind::Limited { file_bytes_max },
        };
        Ok(SmallDisk { path: path.to_path_buf(), kind })
    }

    /// The limit under which processes have to run for this disk to be small.
    pub fn file_bytes_max(&self) -> Option<u64> {
        match self.kind {
            Kind::Limited { file_bytes_max } => Some(file_bytes_max),
            Kind::Mounted | Kind::Roomy => None,
        }
    }

    /// What the system says once it is full, as our programs pass it on.
    pub fn full_text(&self) -> &'static str {
        match self.kind {
            Kind::Mounted => "the disk is full",
            Kind::Limited { .. } | Kind::Roomy => "File too large",
        }
    }

    /// Makes it large. Processes that ran under the limit keep theirs.
    pub fn make_room(&mut self) -> Result<()> {
        match self.kind {
            Kind::Mounted => {
                anyhow::ensure!(mount(&self.path, "remount,size=2g"), "{} cannot be enlarged", self.path.display());
            }
            Kind::Limited { .. } => self.kind = Kind::Roomy,
            Kind::Roomy => {}
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if matches!(self.kind, Kind::Mounted) {
            let _ = quietly(Command::new("umount").arg("-l").arg(&self.path));
        }
    }
}

/// `$ROCKPOOL_TEST_UNMOUNTED` asks for the way that works for every user.
fn mount(path: &Path, options: &str) -> bool {
    std::env::var_os("ROCKPOOL_TEST_UNMOUNTED").is_none()
        && quietly(Command::new("mount").args(["-t", "tmpfs", "-o", options, "rockpool-test"]).arg(path))
}

fn quietly(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
