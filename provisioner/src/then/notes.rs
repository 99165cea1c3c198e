//! Notes on the volume of what is still to be told.

use anyhow::{Result, bail};
use published_tree::dir::unique_suffix;
use published_tree::volume::Volume;

use crate::state::State;

/// What the names of notes begin with.
const UNTOLD: &str = "untold-";

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command.
    Command,
    /// A server.
    Post,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Command, Self::Post];

    fn prefix(self) -> String {
        let kind = match self {
            Self::Command => "command",
            Self::Post => "post",
        };
        format!("{UNTOLD}{kind}-")
    }
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    kind: Kind,
    name: String,
}

/// All notes on a volume.
///
/// # Errors
/// They cannot be listed.
pub fn find(volume: &Volume) -> Result<Vec<Note>> {
    let Some(state) = State::find(volume)? else { return Ok(Vec::new()) };
    let names = state.dir().names()?;
    let note = |name: &str| {
        let kind = Kind::ALL.into_iter().find(|kind| name.starts_with(&kind.prefix()))?;
        Some(Note { kind, name: name.to_owned() })
    };
    Ok(names.iter().filter_map(|name| note(name.to_str().ok()?)).collect())
}

impl Note {
    /// Writes one.
    ///
    /// # Errors
    /// It is not on the disk.
    pub fn write(volume: &Volume, kind: Kind, text: &str) -> Result<Self> {
        let name = format!("{}{}", kind.prefix(), unique_suffix());
        State::make(volume)?.replace(&name, format!("{text}\n").as_bytes())?;
        Ok(Self { kind, name })
    }

    /// Who is to be told.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it says.
    ///
    /// # Errors
    /// It cannot be read, or is there no more.
    pub fn read(&self, volume: &Volume) -> Result<Vec<u8>> {
        let state = State::find(volume)?;
        match state.map(|state| state.read(&self.name)).transpose()?.flatten() {
            Some(text) => Ok(text),
            None => bail!("`{}` is there no more", self.name),
        }
    }

    /// Whether it is there still. One that cannot be read is.
    pub fn is_there(&self, volume: &Volume) -> bool {
        let read = State::find(volume)
            .and_then(|state| state.map_or(Ok(None), |state| state.read(&self.name)));
        read.map_or(true, |text| text.is_some())
    }

    /// Removes it, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, volume: &Volume) -> Result<()> {
        State::find(volume)?.map_or(Ok(()), |state| state.remove(&self.name))
    }
}
