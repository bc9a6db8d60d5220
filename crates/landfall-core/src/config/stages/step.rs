//! Readers of the parts of a step that are not files: users, units and variables; and the check for keys that only
//! Kairos runs.

use secrecy::SecretString;

use crate::config::codes;
use crate::config::node::Node;
use crate::config::report::Report;
use crate::diagnostic::secrets::holds_credential;
use crate::stage::accounts::{is_password_hash, is_user_name};
use crate::stage::environment::is_variable_name;
use crate::stage::{ENVIRONMENT_FILE, Environment, SecretBytes, StageFile, StageUser, Systemctl};

use super::file::{MODE_PLAIN, MODE_SECRET, good_path, is_good_path};

/// Conditions of Kairos other than `if`.
const OTHER_CONDITIONS: [&str; 6] = [
    "if_files",
    "node",
    "only_arch",
    "only_os",
    "only_os_version",
    "only_service_manager",
];
/// Keys of a step that Kairos runs and Landfall does not.
const NOT_RUN: [&str; 17] = [
    "authorized_keys",
    "datasource",
    "delete_entities",
    "dns",
    "downloads",
    "ensure_entities",
    "git",
    "hostname",
    "layout",
    "modules",
    "package_pins",
    "packages",
    "sysctl",
    "systemd_firstboot",
    "timesyncd",
    "unpack_images",
    "after",
];
/// The name that Kairos gives a drop-in without a name.
const OVERRIDE_NAME: &str = "override-yip.conf";
/// (uid_t) -1, which system calls read as "no change" and no user can have.
const UID_NONE: u32 = u32::MAX;

/// Returns true if the step has a condition that only Kairos can evaluate.
pub(super) fn has_other_condition(step: &Node) -> bool {
    OTHER_CONDITIONS.iter().any(|key| is_given(step, key))
}

/// Reports keys that Kairos knows and Landfall does not run.
pub(super) fn check_keys(step: &Node, report: &mut Report) {
    for entry in step.entries() {
        let Some(key) = entry.key.text().filter(|key| is_given(step, key)) else {
            continue;
        };
        if OTHER_CONDITIONS.contains(&key) {
            report
                .node(
                    &codes::STEP_CONDITION,
                    &entry.key,
                    format!("Landfall does not evaluate `{key}`: the step is left out"),
                )
                .help("write the condition as a command: `if: …`");
        } else if NOT_RUN.contains(&key) {
            report
                .node(
                    &codes::STEP_KEY_NOT_RUN,
                    &entry.key,
                    format!("Landfall does not run `{key}` of a step"),
                )
                .help("write it as `files` or `commands`, or leave it to Kairos");
        }
    }
}

fn is_given(step: &Node, key: &str) -> bool {
    step.get(key).is_some_and(|value| !value.is_null())
}

/// Reads `systemctl`. Drop-ins become files.
pub(super) fn read_systemctl(step: &Node, report: &mut Report) -> Systemctl {
    let Some(node) = step.get("systemctl") else {
        return Systemctl::default();
    };
    let overrides = node.get("overrides").map(Node::items_or_self).unwrap_or_default();
    Systemctl {
        overrides: overrides
            .iter()
            .filter_map(|item| read_override(item, report))
            .collect(),
        enable: read_units(node, "enable", report),
        disable: read_units(node, "disable", report),
        mask: read_units(node, "mask", report),
        start: read_units(node, "start", report),
    }
}

fn read_units(systemctl: &Node, key: &str, report: &mut Report) -> Vec<String> {
    values(systemctl, key)
        .filter(|node| check_unit(node, report))
        .filter_map(|node| node.text().map(str::to_owned))
        .collect()
}

fn check_unit(node: &Node, report: &mut Report) -> bool {
    let Some(name) = node.text() else { return false };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.@\\".contains(&byte);
    let is_good = !name.is_empty() && !name.starts_with(['-', '.']) && name.bytes().all(good);
    if !is_good {
        report
            .node(&codes::BAD_UNIT, node, format!("`{name}` is not the name of a unit"))
            .help("write the unit's name, e.g. `landfall-agent.service`");
    }
    is_good
}

fn read_override(node: &Node, report: &mut Report) -> Option<StageFile> {
    let unit = node.get("service")?;
    if !check_unit(unit, report) {
        return None;
    }
    let unit = unit.text()?;
    let unit = if unit.contains('.') {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    };
    let name = match node.get("name").filter(|name| !name.is_null()) {
        Some(name) if !check_unit(name, report) => return None,
        Some(name) => name.text()?,
        None => OVERRIDE_NAME,
    };
    let suffix = if name.ends_with(".conf") { "" } else { ".conf" };
    Some(StageFile {
        path: format!("/etc/systemd/system/{unit}.d/{name}{suffix}"),
        mode: MODE_PLAIN,
        owner: 0,
        group: 0,
        owner_name: None,
        content: SecretBytes(
            node.get("content")
                .and_then(Node::text)
                .unwrap_or_default()
                .as_bytes()
                .to_vec(),
        ),
    })
}

/// Reads `environment` and `environment_file`.
pub(super) fn read_environment(step: &Node, report: &mut Report) -> Option<Environment> {
    let entries = step.get("environment").map(Node::entries).unwrap_or_default();
    let file = step.get("environment_file").filter(|file| !file.is_null());
    let path = match file {
        None => ENVIRONMENT_FILE.to_owned(),
        Some(file) => good_path(file, report)?,
    };
    let mut variables = Vec::new();
    let mut holds_secret = false;
    for entry in entries {
        let (Some(name), Some(value)) = (entry.key.text(), value_of(&entry.value)) else {
            continue;
        };
        if !is_variable_name(name) || value.contains(['\n', '\r', '\0']) {
            report
                .node(
                    &codes::BAD_VARIABLE,
                    &entry.key,
                    format!("`{name}` cannot be written as a variable"),
                )
                .help("write `NAME: value` with letters, digits and `_` in the name, and one line as the value");
            continue;
        }
        holds_secret |= holds_credential(&format!("{name}={value}"));
        variables.push((name.to_owned(), SecretString::from(value)));
    }
    let mode = if holds_secret { MODE_SECRET } else { MODE_PLAIN };
    (!variables.is_empty()).then_some(Environment { path, variables, mode })
}

/// Returns the value of a variable: empty for null, and `None` for a template without a value.
fn value_of(node: &Node) -> Option<&str> {
    if node.is_null() { Some("") } else { node.text() }
}

/// Reads `users`, sorted by name, so that users without a number get the same number each time.
pub(super) fn read_users(step: &Node, report: &mut Report) -> Vec<StageUser> {
    let entries = step.get("users").map(Node::entries).unwrap_or_default();
    let mut users: Vec<StageUser> = entries
        .iter()
        .filter_map(|entry| read_user(&entry.key, &entry.value, report))
        .collect();
    users.sort_by(|one, other| one.name.cmp(&other.name));
    users
}

fn read_user(key: &Node, node: &Node, report: &mut Report) -> Option<StageUser> {
    let text = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let flag = |key: &str| node.get(key).and_then(Node::boolean).unwrap_or(false);
    let name = key.text()?;
    let mut bad = |at: &Node, what: String, help: &str| {
        report.node(&codes::BAD_USER, at, what).help(help);
    };
    if !is_user_name(name) {
        bad(
            key,
            format!("`{name}` cannot be a login name"),
            "write letters, digits, `_`, `-` and `.`, a letter first, at most 32",
        );
        return None;
    }
    for field in ["gecos", "homedir", "shell", "primary_group", "passwd"] {
        let Some(value) = node.get(field) else { continue };
        // A plain password may contain any character, because it is hashed.
        let is_written = |text: &str| field != "passwd" || is_password_hash(text);
        let breaks = |text: &str| text.contains([':', '\n', '\r']);
        if value.text().is_some_and(|text| is_written(text) && breaks(text)) {
            bad(
                value,
                format!("`{field}` of user `{name}` holds `:` or a line break"),
                "leave it out: it would break the line of `/etc/passwd`",
            );
            return None;
        }
    }
    if let Some(home) = node.get("homedir")
        && home.text().is_some_and(|home| !is_good_path(home))
    {
        bad(
            home,
            format!("the home directory of user `{name}` is not an absolute path without `..`"),
            "write the whole path, from `/` on",
        );
        return None;
    }
    let uid = match node.get("uid").filter(|uid| !uid.is_null()) {
        None => None,
        Some(uid) => match uid
            .text()
            .and_then(|text| text.parse().ok())
            .filter(|uid| *uid < UID_NONE)
        {
            Some(number) => Some(number),
            None => {
                bad(
                    uid,
                    format!("`uid` of user `{name}` is no number"),
                    "write a number, e.g. `uid: 2000`, or leave it out",
                );
                return None;
            }
        },
    };
    Some(StageUser {
        name: name.to_owned(),
        password: text("passwd").map(SecretString::from),
        lock_password: flag("lock_passwd"),
        ssh_keys: read_keys(node, report),
        gecos: text("gecos").unwrap_or_default(),
        home: text("homedir"),
        create_home: !flag("no_create_home"),
        primary_group: text("primary_group"),
        groups: values(node, "groups")
            .filter_map(Node::text)
            .map(str::to_owned)
            .collect(),
        shell: text("shell"),
        uid,
        system: flag("system"),
    })
}

fn read_keys(user: &Node, report: &mut Report) -> Vec<String> {
    let mut keys = Vec::new();
    for node in values(user, "ssh_authorized_keys") {
        let Some(key) = node.text().map(str::trim).filter(|key| !key.is_empty()) else {
            continue;
        };
        if !key.contains(' ') && key.contains(':') {
            report
                .node(
                    &codes::REMOTE_KEY,
                    node,
                    format!("`{key}` is the name of keys, not a key"),
                )
                .help("write the public key itself, as in `~/.ssh/id_ed25519.pub`");
        } else {
            keys.extend(key.lines().map(str::to_owned));
        }
    }
    keys
}

fn values<'n>(node: &'n Node, key: &str) -> impl Iterator<Item = &'n Node> + use<'n> {
    node.get(key).map(Node::values).unwrap_or_default().iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{USER_DATA, keys_at};

    #[test]
    fn each_key_of_a_step_is_run_or_is_said_not_to_be() {
        const RUN: [&str; 9] = [
            "commands",
            "directories",
            "environment",
            "environment_file",
            "files",
            "if",
            "name",
            "systemctl",
            "users",
        ];
        let mut table: Vec<&str> = keys_at(&USER_DATA, ".stages.*[]").iter().map(|key| key.name).collect();
        let mut known = [&RUN[..], &OTHER_CONDITIONS, &NOT_RUN].concat();
        table.sort_unstable();
        known.sort_unstable();
        assert_eq!(table, known);
    }
}
