//! Comparison of the readers with the table: both name the same keys.
//!
//! A sample of each file with all keys of the table is generated and read. The nodes record the keys that the readers
//! ask for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{PACK_VALUES, PROFILE, USER_DATA};
use crate::config::facts::Facts;
use crate::config::known_key::{Key, Shape};
use crate::config::node::{KeyPath, asked_keys};
use crate::config::profile::read_profiles;
use crate::config::report::Report;
use crate::config::template::TemplateValues;
use crate::config::text::Text;
use crate::config::user_data::{read_own_primary, read_user_data};
use crate::config::yaml::parse_document;
use crate::diagnostic::NamedText;

/// The key of an entry in a mapping of any keys.
const ANY_KEY: &str = "initramfs";
/// The path of a pack's values in a profile.
const VALUES_PATH: &str = "spec.template.packs.values";
/// Keys that a shared reader of registries asks for, and that only some tables of a registry have.
const OF_OTHER_REGISTRIES: &[&str] = &[
    "certificate",
    "certificateRef",
    "certificates",
    "encodedPassword",
    "insecure",
    "passwordRef",
    "repositoryName",
    "usernameRef",
];

/// Generates a value of a shape, with all keys of its mappings.
fn sample(shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!("h.example"),
        Shape::Label => json!("os"),
        Shape::Bool => json!(true),
        Shape::Number(min, max) => json!((*min).max(1).min(*max)),
        Shape::Size(..) => json!("2MB"),
        Shape::Time(..) => json!("20s"),
        Shape::Owner(_) => json!(1),
        Shape::Mode => json!("0644"),
        Shape::Word(words) => json!(words.last()),
        Shape::Map(keys, _) | Shape::MapOrValue(keys, _) => {
            let entries = keys.iter().map(|key| match key.name {
                "path" | "homedir" | "environment_file" => (key.name.to_owned(), json!("/path")),
                "uid" => (key.name.to_owned(), json!(1000)),
                name => (name.to_owned(), sample(&key.shape)),
            });
            Value::Object(entries.collect())
        }
        Shape::MapOf(inner) => json!({ ANY_KEY: sample(inner) }),
        Shape::List(inner) | Shape::OneOrMany(inner) | Shape::Steps(inner) => json!([sample(inner)]),
        Shape::Yaml | Shape::Any | Shape::Foreign(_) => json!({}),
    }
}

/// Returns the paths of all keys below a shape, and `path.*` where the table accepts any value.
fn table_keys(shape: &Shape, path: &str, found: &mut BTreeSet<String>) {
    match shape {
        Shape::Any | Shape::Yaml | Shape::Foreign(_) => {
            found.insert(format!("{path}.*"));
        }
        Shape::Map(keys, _) | Shape::MapOrValue(keys, _) => {
            for Key { name, shape, .. } in *keys {
                let path = join(path, name);
                table_keys(shape, &path, found);
                found.insert(path);
            }
        }
        Shape::MapOf(inner) => table_keys(inner, &join(path, ANY_KEY), found),
        Shape::List(inner) | Shape::OneOrMany(inner) | Shape::Steps(inner) => table_keys(inner, path, found),
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Returns the keys of user-data that readers ask for, in a file with all keys and in files with one key of `stylus`
/// each, because some forms exclude each other.
fn asked_of_user_data() -> BTreeSet<String> {
    let whole = sample(&USER_DATA);
    let parts = whole["stylus"].as_object().into_iter().flatten();
    let parts = parts.map(|(name, value)| json!({"stylus": {name: value}}));
    let files: Vec<Value> = parts.chain([whole.clone()]).collect();
    asked_keys(|| {
        for file in files {
            let mut report = Report::default();
            let text = Text::of_file(&NamedText::new("f", &file.to_string()));
            let root = parse_document(&text, &KeyPath::default(), &mut report).expect("the sample is YAML");
            let mut facts = Facts::default();
            read_user_data(&root, &mut facts, &mut report);
            read_own_primary(&root, &mut facts, &mut report);
        }
    })
}

/// Returns the keys of a profile that readers ask for, with one pack for each layer that has its own reader.
fn asked_of_profile() -> BTreeSet<String> {
    let mut profile = sample(&PROFILE);
    let mut pack = profile["spec"]["packs"][0].clone();
    pack["values"] = sample(&PACK_VALUES);
    pack["manifests"][0]["content"] = json!("{}");
    let layers = ["os", "k8s", "addon"].map(|layer| {
        let mut pack = pack.clone();
        pack["layer"] = json!(layer);
        pack
    });
    profile["spec"]["template"]["packs"] = json!(layers);
    let file = NamedText::new("f", &profile.to_string());
    asked_keys(|| {
        read_profiles(
            &[file],
            &TemplateValues::default(),
            &mut Vec::new(),
            &mut Facts::default(),
            &mut Report::default(),
        );
    })
}

fn below(keys: &BTreeSet<String>, path: &str) -> BTreeSet<String> {
    let prefix = format!("{path}.");
    keys.iter().filter(|key| key.starts_with(&prefix)).cloned().collect()
}

/// Returns the keys that readers ask for and the table lacks.
fn unknown(asked: &BTreeSet<String>, table: &BTreeSet<String>) -> Vec<String> {
    let is_open = |key: &str| {
        key.match_indices('.')
            .any(|(dot, _)| table.contains(&format!("{}.*", &key[..dot])))
    };
    let is_listed = |key: &str| {
        let name = key.rsplit('.').next().unwrap_or_default();
        OF_OTHER_REGISTRIES.contains(&name)
    };
    let unknown = asked.difference(table).filter(|key| !is_open(key) && !is_listed(key));
    unknown.cloned().collect()
}

/// Returns the keys of the table that no reader asks for.
fn unread(asked: &BTreeSet<String>, table: &BTreeSet<String>) -> Vec<String> {
    table
        .difference(asked)
        .filter(|key| !key.ends_with(".*"))
        .cloned()
        .collect()
}

#[test]
fn every_key_of_landfall_is_read_and_no_other() {
    let mut table = BTreeSet::new();
    table_keys(&USER_DATA, "", &mut table);
    let table = below(&table, "landfall");
    assert!(table.len() > 30, "{table:?}");
    let asked = below(&asked_of_user_data(), "landfall");
    assert_eq!(unread(&asked, &table), Vec::<String>::new());
    assert_eq!(unknown(&asked, &table), Vec::<String>::new());
}

#[test]
fn no_reader_of_user_data_asks_for_a_key_that_is_not_in_the_table() {
    let mut table = BTreeSet::new();
    table_keys(&USER_DATA, "", &mut table);
    let asked = asked_of_user_data();
    assert_eq!(unknown(&asked, &table), Vec::<String>::new());
    // Keys of Palette that Landfall does not use.
    let unused = unread(&below(&asked, "stylus"), &below(&table, "stylus"));
    insta::assert_snapshot!(unused.join("\n"), @r"
    stylus.debug
    stylus.disablePasswordUpdate
    stylus.disableTui
    stylus.diskPartition
    stylus.emcServer.login
    stylus.featureGate
    stylus.imageOverride
    stylus.includeTui
    stylus.localUI.login
    stylus.path
    stylus.site.clusterId
    stylus.site.clusterName
    stylus.site.debug
    stylus.site.deviceUIDPaths
    stylus.site.edgeHostName
    stylus.site.edgeHostToken
    stylus.site.hostName
    stylus.site.insecureSkipVerify
    stylus.site.name
    stylus.site.network.interfaces
    stylus.site.network.nameserver
    stylus.site.ntpServers
    stylus.site.paletteEndpoint
    stylus.site.prefix
    stylus.site.projectName
    stylus.site.projectUid
    stylus.site.registrationURL
    stylus.site.remoteShell
    stylus.site.tags
    stylus.site.tagsFromFile
    stylus.site.tagsFromScript
    stylus.site.users
    stylus.skipStylusUpgrade
    stylus.trace
    stylus.trustedBoot
    stylus.users
    stylus.vip
    stylus.vpn
    ");
}

#[test]
fn no_reader_of_a_profile_asks_for_a_key_that_is_not_in_the_table() {
    let mut table = BTreeSet::new();
    table_keys(&PROFILE, "", &mut table);
    table_keys(&PACK_VALUES, VALUES_PATH, &mut table);
    // Any mapping of manifests, as other packs name them.
    table.insert(format!("{VALUES_PATH}.manifests"));
    let asked = asked_of_profile();
    assert_eq!(unknown(&asked, &table), Vec::<String>::new());
}
