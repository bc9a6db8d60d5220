//! Owner of a stage's file: numbers, or names that are looked up in the root's own tables.

use camino::Utf8Path;

use super::outcome::StageError;
use crate::root::HostRoot;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Resolves `user[:group]` to numbers by the root's tables. Without a group, the user's own group is used. Numbers are
/// used as they are.
pub(super) fn find_owner(root: &HostRoot, owner_name: &str) -> Result<(u32, u32), StageError> {
    let (user, group) = match owner_name.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (owner_name, None),
    };
    let users = read_table(root, USERS)?;
    let entry = find_entry(&users, user);
    let unknown = |kind, name: &str, table| StageError::UnknownOwner {
        kind,
        name: name.to_owned(),
        table,
    };
    let owner = number_of(entry.as_deref(), user).ok_or_else(|| unknown("user", user, USERS))?;
    let group = match group {
        Some(group) => {
            let groups = read_table(root, GROUPS)?;
            number_of(find_entry(&groups, group).as_deref(), group).ok_or_else(|| unknown("group", group, GROUPS))?
        }
        None => entry.and_then(|fields| fields.get(3)?.parse().ok()).unwrap_or(owner),
    };
    Ok((owner, group))
}

/// Returns the owner to set on a file. Only root can change owners. Another user who fills a root directory (an image
/// build, a test) keeps the files.
pub(super) fn effective_owner(root: &HostRoot, owner: u32, group: u32) -> (Option<u32>, Option<u32>) {
    if rustix::process::geteuid().is_root() || root.is_running_host() {
        (Some(owner), Some(group))
    } else {
        (None, None)
    }
}

fn read_table(root: &HostRoot, path: &str) -> Result<String, StageError> {
    let content = root.read(Utf8Path::new(path))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Returns the fields of a name's line. Both tables have the name first and the number third (passwd(5), group(5)).
fn find_entry<'t>(table: &'t str, name: &str) -> Option<Vec<&'t str>> {
    table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
}

fn number_of(entry: Option<&[&str]>, name: &str) -> Option<u32> {
    match entry {
        Some(fields) => fields.get(2)?.parse().ok(),
        None => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use landfall_testkit::host_fixture::HostFixture;

    use super::*;

    #[test]
    fn names_are_looked_up_in_the_tables_of_the_root() {
        let host = HostFixture::mk();
        host.put(
            "/etc/passwd",
            0o644,
            "root:x:0:0::/root:/bin/sh\nkairos:x:1000:1001::/home/kairos:/bin/sh\n",
        );
        host.put("/etc/group", 0o644, "root:x:0:\nadmin:x:116:kairos\n");
        let root = HostRoot::new(host.root());
        let table = [
            ("kairos", Ok((1000, 1001))),
            ("kairos:admin", Ok((1000, 116))),
            ("kairos:", Ok((1000, 1001))),
            ("root:admin", Ok((0, 116))),
            ("65532:65533", Ok((65532, 65533))),
            ("65532", Ok((65532, 65532))),
            ("nobody", Err("cannot find user `nobody` in `/etc/passwd`")),
            ("root:nobody", Err("cannot find group `nobody` in `/etc/group`")),
            ("", Err("cannot find user `` in `/etc/passwd`")),
        ];
        for (name, expected) in table {
            let found = find_owner(&root, name).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{name:?}");
        }
    }
}
