//! The host's files, from user-data to text.

use landfall_core::config::{Inputs, Settings, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::hostconf::kubelet::render_logins;

fn settings_of(user_data: &str) -> Settings {
    let inputs = Inputs {
        user_data: vec![NamedText {
            name: "user-data.yaml".into(),
            text: user_data.into(),
        }],
        ..Inputs::default()
    };
    parse_settings(&inputs).0.expect("the user-data can be read")
}

#[test]
fn each_registry_with_a_login_has_a_file_that_only_root_reads() {
    let settings = settings_of(
        "#cloud-config
stylus:
  externalRegistries:
    registries:
      - {domain: 'reg:5000', username: all, password: one}
      - {domain: 'reg:5000/team/', username: team, password: two}
      - {domain: open.example.com}
landfall:
  primary: {endpoint: '10.0.0.1:30003', username: admin, password: three}
",
    );
    let files = render_logins(&settings);
    let shown: String = files
        .iter()
        .map(|file| format!("{} {:04o}\n{}", file.path, file.mode, *file.content))
        .collect();
    insta::assert_snapshot!(shown, @r#"
    /etc/kubernetes/registries/10.0.0.1:30003.json 0600
    {
      "managedBy": "landfall",
      "username": "admin",
      "password": "three",
      "duration": "0h5m0s",
      "subdomains": false
    }
    /etc/kubernetes/registries/reg:5000.json 0600
    {
      "managedBy": "landfall",
      "username": "all",
      "password": "one",
      "duration": "0h5m0s",
      "subdomains": false,
      "paths": {
        "team": {
          "username": "team",
          "password": "two"
        }
      }
    }
    "#);
    assert!(!format!("{files:?}").contains("one"), "a password is printed");
}
