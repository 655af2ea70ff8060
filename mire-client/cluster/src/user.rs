//! Who runs the server: PostgreSQL refuses to run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::{Error, Result};

/// The account a server runs under: the caller's own, or for root `postgres` or `nobody`.
#[derive(Debug, Clone, Copy)]
pub struct ServerUser {
    uid: u32,
    gid: u32,
    switch: bool,
}

impl ServerUser {
    /// Picks the account.
    ///
    /// # Errors
    /// [`Error::NoServerUser`] when called as root on a system without both accounts.
    pub fn choose() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Self {
                uid,
                gid: rustix::process::getegid().as_raw(),
                switch: false,
            });
        }
        let passwd =
            std::fs::read_to_string("/etc/passwd").map_err(Error::io("reading /etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| lookup(&passwd, name))
            .map(|(uid, gid)| Self {
                uid,
                gid,
                switch: true,
            })
            .ok_or(Error::NoServerUser)
    }

    /// Makes `command` run as this account.
    pub fn apply(self, command: &mut Command) {
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Hands `path` over to this account.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        if self.switch {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io(
                format!("handing {} to the server's user", path.display()),
            ))?;
        }
        Ok(())
    }

    /// Whether this account gets into `folder`, or into what of it already exists.
    #[must_use]
    pub fn reaches(self, folder: &Path) -> bool {
        folder.ancestors().all(|step| {
            let Ok(meta) = step.metadata() else {
                return true;
            };
            let mode = meta.permissions().mode();
            if meta.uid() == self.uid {
                mode & 0o100 != 0
            } else if meta.gid() == self.gid {
                mode & 0o010 != 0
            } else {
                mode & 0o001 != 0
            }
        })
    }
}

fn lookup(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
