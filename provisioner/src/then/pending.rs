//! Pending notifications: files `untold-...` in the volume's state directory, one for each run and
//! listener. Each holds the message, and is removed once the listener has been notified.

use anyhow::{Result, bail};

use crate::state::State;
use published_tree::dir::unique_suffix;
use published_tree::volume::Volume;

/// Prefix of the names of the files. Volumes in use have such files, so it must not change.
const PREFIX: &str = "untold-";

/// Who is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The command of `--then`.
    Command,
    /// The server of `--then-post`.
    Post,
}

impl Listener {
    const ALL: [Self; 2] = [Self::Command, Self::Post];

    fn prefix(self) -> String {
        let listener = match self {
            Self::Command => "command",
            Self::Post => "post",
        };
        format!("{PREFIX}{listener}-")
    }
}

/// A file that records a pending notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    listener: Listener,
    name: String,
}

/// Finds all pending notifications of a volume.
///
/// # Errors
/// Fails if the state's directory cannot be listed.
pub fn find(volume: &Volume) -> Result<Vec<Pending>> {
    let Some(state) = State::find(volume)? else { return Ok(Vec::new()) };
    let names = state.dir().names()?;
    let names = names.iter().filter_map(|name| name.to_str().ok());
    Ok(names.filter_map(Pending::from_name).collect())
}

impl Pending {
    fn from_name(name: &str) -> Option<Self> {
        let mut all = Listener::ALL.into_iter();
        let listener = all.find(|listener| name.starts_with(&listener.prefix()))?;
        Some(Self { listener, name: name.to_owned() })
    }

    /// Records a message as pending.
    ///
    /// # Errors
    /// Fails if the file is not on the disk.
    pub fn write(volume: &Volume, listener: Listener, message: &str) -> Result<Self> {
        let name = format!("{}{}", listener.prefix(), unique_suffix());
        State::find_or_create(volume)?.replace(&name, format!("{message}\n").as_bytes())?;
        Ok(Self { listener, name })
    }

    /// Who is to be notified.
    pub fn listener(&self) -> Listener {
        self.listener
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Fails if the file is gone or cannot be read.
    pub fn read(&self, volume: &Volume) -> Result<Vec<u8>> {
        match self.content(volume)? {
            Some(message) => Ok(message),
            None => bail!("`{}` is gone", self.name),
        }
    }

    /// Whether the notification is still pending. It is if the file cannot be read.
    pub fn exists(&self, volume: &Volume) -> bool {
        self.content(volume).map_or(true, |content| content.is_some())
    }

    /// Removes the file, if it is there.
    ///
    /// # Errors
    /// Fails if the file cannot be removed.
    pub fn remove(&self, volume: &Volume) -> Result<()> {
        State::find(volume)?.map_or(Ok(()), |state| state.remove(&self.name))
    }

    fn content(&self, volume: &Volume) -> Result<Option<Vec<u8>>> {
        State::find(volume)?.map_or(Ok(None), |state| state.read(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_who_is_to_be_notified() {
        let listener = |name: &str| Pending::from_name(name).map(|pending| pending.listener);
        assert_eq!(listener("untold-command-1"), Some(Listener::Command));
        assert_eq!(listener("untold-post-1"), Some(Listener::Post));
        for other in ["untold-", "untold-mail-1", "history", "pinned"] {
            assert_eq!(listener(other), None, "{other}");
        }
    }
}
