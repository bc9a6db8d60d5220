//! Hints that a test follows: it does what the hint says, and the message is gone.

use std::path::Path;

use std::process::Command;

use super::{CANARY, landfall, shown};

/// One error: the program's arguments before and after its hint was followed.
pub(crate) struct Followed {
    pub(crate) name: &'static str,
    /// Part of the message.
    pub(crate) message: &'static str,
    /// Part of the hint.
    pub(crate) hint: &'static str,
    pub(crate) before: Vec<String>,
    pub(crate) after: Vec<String>,
}

impl Followed {
    /// Runs both commands. Only the second one is done, and it has no more of the message.
    pub(crate) fn assert_mended(self) {
        self.assert_mended_by(|| {});
    }

    /// As [`Followed::assert_mended`], with something else to do between the commands.
    pub(crate) fn assert_mended_by(self, act: impl FnOnce()) {
        self.assert_mended_in(landfall, act);
    }

    /// As [`Followed::assert_mended_by`], with commands in an environment that the caller makes.
    pub(crate) fn assert_mended_in(self, program: impl Fn(&[&str]) -> Command, act: impl FnOnce()) {
        let show = |arguments: &[String]| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            shown(&program(&arguments).output().expect("the program starts"))
        };
        let (name, before) = (self.name, show(&self.before));
        assert!(!before.starts_with("status 0\n"), "{name}: {before}");
        for part in [self.message, self.hint] {
            assert!(before.contains(part), "{name}: `{part}` is not in {before}");
        }
        act();
        let after = show(&self.after);
        assert!(after.starts_with("status 0\n"), "{name}: {after}");
        assert!(!after.contains(self.message), "{name}: {after}");
        assert!(!before.contains(CANARY) && !after.contains(CANARY), "{name}");
    }
}

/// Returns the arguments of a command.
pub(crate) fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
}

/// Writes a file into a directory. Returns its path.
#[expect(clippy::disallowed_methods, reason = "test set-up")]
pub(crate) fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a file in a temporary directory");
    path.display().to_string()
}
