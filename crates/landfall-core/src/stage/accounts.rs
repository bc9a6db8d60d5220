//! Users in `/etc/passwd`, `/etc/group` and `/etc/shadow` (passwd(5), group(5), shadow(5)). The functions are pure and
//! work on texts, so that a root directory of a host that does not run gets its users as well. Lines of other users and
//! groups stay.

use secrecy::{ExposeSecret as _, SecretString};

use crate::stage::StageUser;

/// The first number for people; those of the system are below (systemd's "Users, Groups, UIDs and GIDs").
const FIRST_HUMAN: u32 = 1000;
const LAST_HUMAN: u32 = 60_000;
const FIRST_SYSTEM: u32 = 100;
const SHELL: &str = "/bin/sh";
/// The mark in front of a hash, or instead of one: no password opens the account.
const LOCKED: &str = "!";

/// The three tables. `Debug` does not print them, because the third holds hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountTables {
    /// The text of `/etc/passwd`.
    pub passwd: String,
    /// The text of `/etc/group`.
    pub group: String,
    /// The text of `/etc/shadow`.
    pub shadow: String,
}

impl std::fmt::Debug for AccountTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountTables").finish_non_exhaustive()
    }
}

/// A user in the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
    pub home: String,
    /// Groups that the step names but the host does not have. The user joins none of them.
    pub missing_groups: Vec<String>,
}

/// Reason why a user cannot be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The primary group does not exist.
    #[error("cannot make user `{user}`: there is no group `{group}` in `/etc/group`")]
    PrimaryGroup { user: String, group: String },
    /// The number belongs to another user.
    #[error("cannot make user `{user}`: the number {uid} is that of `{owner}`")]
    NumberTaken { user: String, uid: u32, owner: String },
    /// Every number of the range is taken.
    #[error("cannot make user `{user}`: no number is free")]
    NoNumber { user: String },
}

/// Adds a user to the tables. An existing user keeps number, home and shell; the step sets the password and adds
/// groups, as Kairos does. `hash` hashes a password; it receives the present hash and returns it if it matches. `today`
/// counts days since 1970. A second call changes nothing.
///
/// # Errors
/// If the primary group does not exist or no number is free. The tables are then unchanged.
pub fn ensure_account(
    tables: &mut AccountTables,
    user: &StageUser,
    today: i64,
    hash: impl FnOnce(&SecretString, Option<&str>) -> String,
) -> Result<Account, AccountError> {
    let mut next = tables.clone();
    let (uid, gid, home) = match fields_of(&next.passwd, &user.name) {
        Some(fields) => {
            let number = |index: usize| {
                fields
                    .get(index)
                    .and_then(|field| field.parse().ok())
                    .unwrap_or_default()
            };
            (number(2), number(3), fields.get(5).copied().unwrap_or("/").to_owned())
        }
        None => add_user(&mut next, user)?,
    };
    let missing_groups: Vec<String> = user
        .groups
        .iter()
        .filter(|group| !join_group(&mut next, group, &user.name))
        .cloned()
        .collect();
    set_password(&mut next, user, today, hash);
    *tables = next;
    Ok(Account {
        uid,
        gid,
        home,
        missing_groups,
    })
}

/// Returns true if the text is a valid password field of `/etc/shadow`: a hash (crypt(5)), or a lock mark.
#[must_use]
pub fn is_password_hash(text: &str) -> bool {
    text.starts_with('$') && text.matches('$').count() >= 3 || text.starts_with(['!', '*'])
}

/// Returns true if the text is a valid login name; `useradd` has the same rule (useradd(8)).
#[must_use]
pub fn is_user_name(name: &str) -> bool {
    let good = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let body = name.strip_suffix('$').unwrap_or(name);
    name.len() <= 32
        && body.chars().all(good)
        && body
            .chars()
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
}

fn add_user(tables: &mut AccountTables, user: &StageUser) -> Result<(u32, u32, String), AccountError> {
    let uid = choose_uid(tables, user)?;
    let gid = match &user.primary_group {
        Some(group) => number_of_group(tables, group).ok_or_else(|| AccountError::PrimaryGroup {
            user: user.name.clone(),
            group: group.clone(),
        })?,
        None => match number_of_group(tables, &user.name) {
            Some(gid) => gid,
            None => add_group(tables, user, uid)?,
        },
    };
    let home = user.home.clone().unwrap_or_else(|| format!("/home/{}", user.name));
    let shell = user.shell.as_deref().unwrap_or(SHELL);
    push_line(
        &mut tables.passwd,
        &format!("{}:x:{uid}:{gid}:{}:{home}:{shell}", user.name, user.gecos),
    );
    Ok((uid, gid, home))
}

fn choose_uid(tables: &AccountTables, user: &StageUser) -> Result<u32, AccountError> {
    let Some(uid) = user.uid else {
        // A number that is free in both tables lets the user's own group have the same number.
        let taken =
            |number: u32| owner_of(&tables.passwd, number).is_some() || owner_of(&tables.group, number).is_some();
        return first_free(user.system, taken).ok_or_else(|| AccountError::NoNumber {
            user: user.name.clone(),
        });
    };
    match owner_of(&tables.passwd, uid) {
        None => Ok(uid),
        Some(owner) => Err(AccountError::NumberTaken {
            user: user.name.clone(),
            uid,
            owner: owner.to_owned(),
        }),
    }
}

fn add_group(tables: &mut AccountTables, user: &StageUser, wanted: u32) -> Result<u32, AccountError> {
    let taken = |number: u32| owner_of(&tables.group, number).is_some();
    let gid = match taken(wanted) {
        false => wanted,
        true => first_free(user.system, taken).ok_or_else(|| AccountError::NoNumber {
            user: user.name.clone(),
        })?,
    };
    push_line(&mut tables.group, &format!("{}:x:{gid}:", user.name));
    Ok(gid)
}

/// Returns the first free number: system accounts count down, people count up, as in `useradd`.
fn first_free(system: bool, taken: impl Fn(u32) -> bool) -> Option<u32> {
    if system {
        (FIRST_SYSTEM..FIRST_HUMAN).rev().find(|number| !taken(*number))
    } else {
        (FIRST_HUMAN..LAST_HUMAN).find(|number| !taken(*number))
    }
}

/// Adds the user to the group; returns false if the group does not exist.
fn join_group(tables: &mut AccountTables, group: &str, user: &str) -> bool {
    let mut found = false;
    map_line(&mut tables.group, group, |fields| {
        found = true;
        let Some(members) = fields.get_mut(3) else { return };
        if !members.split(',').any(|member| member == user) {
            *members = match members.is_empty() {
                true => user.to_owned(),
                false => format!("{members},{user}"),
            };
        }
    });
    found
}

fn set_password(
    tables: &mut AccountTables,
    user: &StageUser,
    today: i64,
    hash: impl FnOnce(&SecretString, Option<&str>) -> String,
) {
    let present =
        fields_of(&tables.shadow, &user.name).and_then(|fields| fields.get(1).map(|field| (*field).to_owned()));
    let wanted = match (&user.password, user.lock_password) {
        (_, true) => Some(LOCKED.to_owned()),
        (Some(password), false) if is_password_hash(password.expose_secret()) => {
            Some(password.expose_secret().to_owned())
        }
        (Some(password), false) => Some(hash(password, present.as_deref())),
        // A new user without a password gets a locked account.
        (None, false) => present.is_none().then(|| LOCKED.to_owned()),
    };
    let Some(wanted) = wanted.filter(|wanted| present.as_ref() != Some(wanted)) else {
        return;
    };
    if present.is_none() {
        push_line(
            &mut tables.shadow,
            &format!("{}:{wanted}:{today}:0:99999:7:::", user.name),
        );
        return;
    }
    map_line(&mut tables.shadow, &user.name, |fields| {
        if let [_, password, changed, ..] = fields {
            password.clone_from(&wanted);
            *changed = today.to_string();
        }
    });
}

fn fields_of<'t>(table: &'t str, name: &str) -> Option<Vec<&'t str>> {
    table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
}

fn number_of_group(tables: &AccountTables, group: &str) -> Option<u32> {
    fields_of(&tables.group, group)?.get(2)?.parse().ok()
}

/// Returns the owner of a number: both tables have the name first and the number third.
fn owner_of(table: &str, number: u32) -> Option<&str> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then_some(name)
    })
}

fn push_line(table: &mut String, line: &str) {
    if !table.is_empty() && !table.ends_with('\n') {
        table.push('\n');
    }
    table.push_str(line);
    table.push('\n');
}

/// Changes the fields of one name's line; every other byte stays.
fn map_line(table: &mut String, name: &str, change: impl FnOnce(&mut [String])) {
    let mut start = 0;
    for line in table.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        if bare.split(':').next() == Some(name) {
            let mut fields: Vec<String> = bare.split(':').map(str::to_owned).collect();
            change(&mut fields);
            let end = start + bare.len();
            table.replace_range(start..end, &fields.join(":"));
            return;
        }
        start += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: i64 = 20_000;

    fn tables() -> AccountTables {
        AccountTables {
            passwd: "root:x:0:0::/root:/bin/sh\nkairos:x:1000:1001:Old:/home/kairos:/bin/bash\n".to_owned(),
            group: "root:x:0:\nadmin:x:116:kairos\nkairos:x:1001:\nempty:x:117:".to_owned(),
            shadow: "root:*:1::::::\nkairos:$6$salt$old:10:0:99999:7:::\n".to_owned(),
        }
    }

    fn user(name: &str) -> StageUser {
        StageUser {
            name: name.to_owned(),
            password: None,
            lock_password: false,
            ssh_keys: Vec::new(),
            gecos: String::new(),
            home: None,
            create_home: true,
            primary_group: None,
            groups: Vec::new(),
            shell: None,
            uid: None,
            system: false,
        }
    }

    fn ensure(tables: &mut AccountTables, user: &StageUser) -> Result<Account, AccountError> {
        ensure_account(tables, user, TODAY, |password, present| {
            let hash = format!("$6$salt${}", password.expose_secret());
            present
                .filter(|present| *present == hash)
                .map_or(hash.clone(), str::to_owned)
        })
    }

    fn shown(tables: &AccountTables) -> String {
        format!("{}--\n{}--\n{}", tables.passwd, tables.group, tables.shadow)
    }

    #[test]
    fn a_new_user_gets_the_first_free_number_a_group_and_the_groups_that_are_there() {
        let mut tables = tables();
        let wanted = StageUser {
            password: Some(SecretString::from("word")),
            groups: vec!["admin".to_owned(), "empty".to_owned(), "ghosts".to_owned()],
            gecos: "Site operator".to_owned(),
            ..user("operator")
        };
        let account = ensure(&mut tables, &wanted).unwrap();
        assert_eq!(account.missing_groups, ["ghosts"]);
        assert_eq!(
            (account.uid, account.gid, account.home.as_str()),
            (1002, 1002, "/home/operator")
        );
        insta::assert_snapshot!(shown(&tables), @r"
        root:x:0:0::/root:/bin/sh
        kairos:x:1000:1001:Old:/home/kairos:/bin/bash
        operator:x:1002:1002:Site operator:/home/operator:/bin/sh
        --
        root:x:0:
        admin:x:116:kairos,operator
        kairos:x:1001:
        empty:x:117:operator
        operator:x:1002:
        --
        root:*:1::::::
        kairos:$6$salt$old:10:0:99999:7:::
        operator:$6$salt$word:20000:0:99999:7:::
        ");
        let after = tables.clone();
        assert_eq!(ensure(&mut tables, &wanted).unwrap(), account);
        assert!(tables == after, "doing it again changes nothing");
    }

    #[test]
    fn somebody_who_is_there_keeps_number_home_and_shell_and_gets_the_new_password() {
        let mut tables = tables();
        let wanted = StageUser {
            password: Some(SecretString::from("$6$salt$new")),
            shell: Some("/bin/zsh".to_owned()),
            uid: Some(77),
            ..user("kairos")
        };
        let account = ensure(&mut tables, &wanted).unwrap();
        assert_eq!((account.uid, account.gid), (1000, 1001));
        insta::assert_snapshot!(tables.shadow, @r"
        root:*:1::::::
        kairos:$6$salt$new:20000:0:99999:7:::
        ");
        assert_eq!(tables.passwd, self::tables().passwd);
    }

    #[test]
    fn system_users_are_numbered_downwards_and_locked_ones_have_no_password() {
        let mut tables = tables();
        let wanted = StageUser {
            system: true,
            lock_password: true,
            password: Some(SecretString::from("ignored")),
            primary_group: Some("admin".to_owned()),
            ..user("zot")
        };
        let account = ensure(&mut tables, &wanted).unwrap();
        assert_eq!((account.uid, account.gid), (999, 116));
        assert!(tables.shadow.ends_with("zot:!:20000:0:99999:7:::\n"));
    }

    #[test]
    fn what_cannot_be_made_says_why_and_changes_nothing() {
        let cases = [
            (
                StageUser {
                    primary_group: Some("ghosts".to_owned()),
                    ..user("a")
                },
                "cannot make user `a`: there is no group `ghosts` in `/etc/group`",
            ),
            (
                StageUser {
                    uid: Some(0),
                    ..user("a")
                },
                "cannot make user `a`: the number 0 is that of `root`",
            ),
        ];
        for (wanted, message) in cases {
            let mut tables = tables();
            assert_eq!(ensure(&mut tables, &wanted).unwrap_err().to_string(), message);
            assert!(tables == self::tables());
        }
    }

    #[test]
    fn names_and_hashes_are_told_from_what_is_none() {
        for (name, good) in [
            ("kairos", true),
            ("_svc-1", true),
            ("host$", true),
            ("Operator", true),
            ("-root", false),
            ("a:b", false),
            ("", false),
            ("1a", false),
        ] {
            assert_eq!(is_user_name(name), good, "{name:?}");
        }
        for (text, is_hash) in [
            ("$6$salt$hash", true),
            ("!", true),
            ("*", true),
            ("kairos", false),
            ("$money", false),
            ("", false),
        ] {
            assert_eq!(is_password_hash(text), is_hash, "{text:?}");
        }
    }
}
