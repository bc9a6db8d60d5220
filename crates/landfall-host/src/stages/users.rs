//! Users: the tables below the root are edited as texts. Each file is written atomically, under the lock that `passwd`
//! and `useradd` take (lckpwdf(3)). The home directory is created, and keys are written into it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use landfall_core::stage::StageUser;
use landfall_core::stage::accounts::{Account, AccountTables, ensure_account};
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::files::{
    DirectorySpec, FileChange, FileError, FileSpec, ensure_directory, ensure_file, inspect_file, preview_directory,
};
use crate::root::{HostRoot, MissingParents, RootError};

use super::blocking::blocking;
use super::options::StageOptions;
use super::outcome::{EffectOutcome, StageError};
use super::{crypt, owner};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const SHADOW: &str = "/etc/shadow";
const LOCK: &str = "/etc/.pwd.lock";
/// The time that lckpwdf waits.
const LOCK_LIMIT: Duration = Duration::from_secs(15);
const LOCK_POLL: Duration = Duration::from_millis(50);
const HOME_MODE: u32 = 0o750;
/// The path inside the home directory.
const KEYS: &str = "/.ssh/authorized_keys";
const KEY_DIRECTORY: &str = "/.ssh";
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// Creates a user, or sets password, groups and keys of an existing one.
pub(super) async fn ensure_user(user: &StageUser, root: &HostRoot, options: &StageOptions) -> EffectOutcome {
    let (user, root, dry_run) = (user.clone(), root.clone(), options.dry_run);
    let outcome = blocking(move || match dry_run {
        true => preview(&root, &user),
        false => ensure(&root, &user).map(EffectOutcome::Ensured),
    });
    outcome.await.unwrap_or_else(EffectOutcome::Failed)
}

fn preview(root: &HostRoot, user: &StageUser) -> Result<EffectOutcome, StageError> {
    let before = read_tables(root)?;
    let mut after = before.clone();
    let account = account_of(&mut after, user)?;
    let is_home_missing = user.create_home && preview_directory(root, &home_of(root, &account))? == FileChange::Created;
    let keys_differ = match inspect_home_file(root, &account.home)? {
        Some(content) => with_keys(&content, &user.ssh_keys) != content,
        None => !user.ssh_keys.is_empty(),
    };
    Ok(if before == after && !is_home_missing && !keys_differ {
        EffectOutcome::Ensured(FileChange::Unchanged)
    } else {
        EffectOutcome::WouldDo { diff: None }
    })
}

fn ensure(root: &HostRoot, user: &StageUser) -> Result<FileChange, StageError> {
    let _held = lock(root)?;
    let before = read_tables(root)?;
    let mut after = before.clone();
    let account = account_of(&mut after, user)?;
    let is_new = !before
        .passwd
        .lines()
        .any(|line| line.split(':').next() == Some(user.name.as_str()));
    // `/etc/passwd` is written last, so that a program that finds the user also finds its group and password.
    let mut changed = write_table(root, GROUP, 0o644, &before.group, &after.group)?;
    changed |= write_table(root, SHADOW, 0o600, &before.shadow, &after.shadow)?;
    changed |= write_table(root, PASSWD, 0o644, &before.passwd, &after.passwd)?;
    if user.create_home {
        let home = home_of(root, &account);
        // An existing home directory belongs to its owner and is not changed.
        if preview_directory(root, &home)? == FileChange::Created {
            ensure_directory(root, &home)?;
            changed = true;
        }
    }
    if !user.ssh_keys.is_empty() {
        changed |= write_keys(root, user, &account)?;
    }
    if !account.missing_groups.is_empty() {
        return Err(StageError::MissingGroups {
            user: user.name.clone(),
            groups: account.missing_groups,
        });
    }
    Ok(match (changed, is_new) {
        (false, _) => FileChange::Unchanged,
        (true, true) => FileChange::Created,
        (true, false) => FileChange::Updated,
    })
}

fn account_of(tables: &mut AccountTables, user: &StageUser) -> Result<Account, StageError> {
    let today = Timestamp::now().as_second().div_euclid(SECONDS_A_DAY);
    let mut has_salt = true;
    let account = ensure_account(tables, user, today, |password, present| {
        if let Some(present) = present.filter(|present| crypt::is_hash_of(present, password)) {
            return present.to_owned();
        }
        crypt::hash_password(password).unwrap_or_else(|crypt::NoRandomness| {
            has_salt = false;
            String::new()
        })
    })?;
    match has_salt {
        true => Ok(account),
        false => Err(StageError::NoSalt {
            user: user.name.clone(),
        }),
    }
}

fn read_tables(root: &HostRoot) -> Result<AccountTables, StageError> {
    let read = |path: &str| {
        let content = root.read(Utf8Path::new(path))?.unwrap_or_default();
        String::from_utf8(content).map_err(|_| StageError::NoText { path: path.into() })
    };
    Ok(AccountTables {
        passwd: read(PASSWD)?,
        group: read(GROUP)?,
        shadow: read(SHADOW)?,
    })
}

/// Writes a table that changed. Mode and owner of an existing file stay.
fn write_table(root: &HostRoot, path: &str, mode: u32, before: &str, after: &str) -> Result<bool, StageError> {
    if before == after {
        return Ok(false);
    }
    let found = inspect_file(root, Utf8Path::new(path))?;
    let file = FileSpec {
        path: path.into(),
        mode: found.as_ref().map_or(mode, |found| found.mode),
        owner: found.as_ref().map(|found| found.owner),
        group: found.as_ref().map(|found| found.group),
        content: after.as_bytes().to_vec(),
    };
    Ok(ensure_file(root, &file)? != FileChange::Unchanged)
}

fn home_of(root: &HostRoot, account: &Account) -> DirectorySpec {
    let (owner, group) = owner::effective_owner(root, account.uid, account.gid);
    DirectorySpec {
        path: account.home.clone().into(),
        mode: HOME_MODE,
        owner,
        group,
    }
}

/// Writes the keys. The home directory belongs to the user, who may create links in it. The links must not lead out of
/// it, so it gets a root of its own.
fn write_keys(root: &HostRoot, user: &StageUser, account: &Account) -> Result<bool, StageError> {
    let (owner, group) = owner::effective_owner(root, account.uid, account.gid);
    let home = Utf8PathBuf::from(&account.home);
    let (inside, _open) = root.confine(&home)?;
    let failed = |source: FileError| StageError::Home {
        home: home.clone(),
        source,
    };
    let directory = DirectorySpec {
        path: KEY_DIRECTORY.into(),
        mode: 0o700,
        owner,
        group,
    };
    let made = ensure_directory(&inside, &directory).map_err(failed)?;
    let before = inspect_file(&inside, Utf8Path::new(KEYS)).map_err(failed)?;
    let before = before.map(|found| found.content).unwrap_or_default();
    let before = String::from_utf8(before).map_err(|_| StageError::NoText {
        path: home.join(KEYS.trim_start_matches('/')),
    })?;
    let file = FileSpec {
        path: KEYS.into(),
        mode: 0o600,
        owner,
        group,
        content: with_keys(&before, &user.ssh_keys).into_bytes(),
    };
    let written = ensure_file(&inside, &file).map_err(failed)?;
    Ok(made != FileChange::Unchanged || written != FileChange::Unchanged)
}

/// Reads the keys of a home directory; `None` if the directory or the file does not exist.
fn inspect_home_file(root: &HostRoot, home: &str) -> Result<Option<String>, StageError> {
    let (inside, _open) = match root.confine(Utf8Path::new(home)) {
        Ok(confined) => confined,
        Err(RootError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = inspect_file(&inside, Utf8Path::new(KEYS))?;
    Ok(found.map(|found| String::from_utf8_lossy(&found.content).into_owned()))
}

/// Returns the text with the keys added. Existing keys stay, in their order.
fn with_keys(before: &str, keys: &[String]) -> String {
    let mut text = before.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for key in keys {
        if !before.lines().any(|line| line.trim() == key) {
            text.push_str(key);
            text.push('\n');
        }
    }
    text
}

/// Waits for the lock on the tables. Dropping the returned value releases it.
fn lock(root: &HostRoot) -> Result<OwnedFd, StageError> {
    let path = Utf8Path::new(LOCK);
    let failed = |source: std::io::Error| {
        StageError::File(FileError::Io {
            verb: "lock",
            path: path.to_owned(),
            source,
        })
    };
    let entry = root.find(path, MissingParents::Create)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&entry.directory, entry.name.as_str(), flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| failed(error.into()))?;
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) if waited < LOCK_LIMIT => {
                std::thread::sleep(LOCK_POLL);
                waited += LOCK_POLL;
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}
