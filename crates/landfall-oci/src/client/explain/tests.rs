//! Every kind of failure against every kind of registry, as the operator reads it.

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::plan::{PlannedImage, plan_images};
use landfall_core::resolve::Resolver;

use super::*;
use crate::store::error::{MAKE_ROOM, StoreError};

const KINDS: [FailureKind; 9] = [
    FailureKind::NotFound,
    FailureKind::Unauthorized,
    FailureKind::Forbidden,
    FailureKind::RateLimited { after: None },
    FailureKind::Unreachable,
    FailureKind::BadTls,
    FailureKind::Corrupt,
    FailureKind::Protocol,
    FailureKind::Local,
];

const PROFILE: &str = r#"metadata:
  name: store
spec:
  template:
    packs:
      - name: os
        layer: os
        values: |
          options:
            system.uri: os.example.io/edge:1
          providerCredentials:
            registry: os.example.io
            user: builder
            password: canary
      - name: web
        layer: addon
        values: |
          pack:
            content:
              images:
                - image: nginx:1.27
"#;

fn mk_site(user_data: &str) -> (Settings, Vec<PlannedImage>) {
    let inputs = Inputs {
        user_data: vec![NamedText::new("user-data.yaml", user_data)],
        profiles: vec![NamedText::new("profile.yaml", PROFILE)],
        ..Inputs::default()
    };
    let (settings, _) = parse_settings(&inputs);
    let settings = settings.unwrap();
    let planned = plan_images(&settings, &Resolver::new(&settings));
    (settings, planned)
}

fn mk_error(kind: FailureKind) -> TransferError {
    TransferError {
        attempt: "cannot fetch manifest `x`".to_owned(),
        kind,
        source: Some("the cause".into()),
    }
}

/// Returns the explanations of each kind of failure at the first candidate of the image with this source.
fn explain_all(user_data: &str, source: &str) -> String {
    let (settings, planned) = mk_site(user_data);
    let image = settings.images.iter().position(|image| image.source == source).unwrap();
    let planned = planned.iter().find(|planned| planned.image == image).unwrap();
    let told = KINDS.map(|kind| {
        let explained = explain_fetch(&settings, &settings.images[image], &planned.pull[0], &mk_error(kind));
        format!("{kind:?}\n  {}\n  hint: {}", explained.message, explained.hint)
    });
    told.join("\n")
}

#[test]
fn external_registry_with_a_login() {
    let user_data = "#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg:5000\n    username: edge\n    password: canary\n";
    insta::assert_snapshot!(explain_all(user_data, "nginx:1.27"), @r"
    NotFound
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it does not have `reg:5000/docker.io/library/nginx:1.27`
      hint: push it there, or correct the image at profile.yaml:21:26
    Unauthorized
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it refuses the password of user `edge`
      hint: correct `stylus.registryCredentials.password` at user-data.yaml:6:15
    Forbidden
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: user `edge` may not pull from `docker.io/library/nginx`
      hint: grant it there, or name another user as `stylus.registryCredentials.username` beside user-data.yaml:4:13
    RateLimited { after: None }
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it allows no more requests for now
      hint: wait, or ask its operator for a higher limit
    Unreachable
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it does not answer: the cause
      hint: check that `reg:5000` is up and can be reached from this host; its address is `stylus.registryCredentials.domain` at user-data.yaml:4:13
    BadTls
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: the cause
      hint: add the PEM of the authority that signed it as `stylus.registryCredentials.certificates` beside user-data.yaml:4:13, or set `insecure: true` there
    Corrupt
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: the bytes are not those that their digest names: the cause
      hint: push the image to `reg:5000` again, and look for a proxy that changes what passes through it
    Protocol
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it answers like no registry: the cause
      hint: check that a registry, and nothing else, listens there; its address is `stylus.registryCredentials.domain` at user-data.yaml:4:13
    Local
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: this host failed: the cause
      hint: look at the free space and the permissions of `landfall.stateDir`
    ");
}

#[test]
fn external_registry_without_a_login() {
    let user_data = "#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg:5000\n";
    insta::assert_snapshot!(explain_all(user_data, "nginx:1.27"), @r"
    NotFound
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it does not have `reg:5000/docker.io/library/nginx:1.27`
      hint: push it there, or correct the image at profile.yaml:21:26
    Unauthorized
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it asks for a login, and none is given
      hint: add `stylus.registryCredentials.username` and the password beside user-data.yaml:4:13
    Forbidden
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: anonymous users may not pull from `docker.io/library/nginx`
      hint: add `stylus.registryCredentials.username` and the password beside user-data.yaml:4:13
    RateLimited { after: None }
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it allows no more requests for now
      hint: wait, or log in, which often allows more: add `stylus.registryCredentials.username` beside user-data.yaml:4:13
    Unreachable
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it does not answer: the cause
      hint: check that `reg:5000` is up and can be reached from this host; its address is `stylus.registryCredentials.domain` at user-data.yaml:4:13
    BadTls
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: the cause
      hint: add the PEM of the authority that signed it as `stylus.registryCredentials.certificates` beside user-data.yaml:4:13, or set `insecure: true` there
    Corrupt
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: the bytes are not those that their digest names: the cause
      hint: push the image to `reg:5000` again, and look for a proxy that changes what passes through it
    Protocol
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it answers like no registry: the cause
      hint: check that a registry, and nothing else, listens there; its address is `stylus.registryCredentials.domain` at user-data.yaml:4:13
    Local
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: this host failed: the cause
      hint: look at the free space and the permissions of `landfall.stateDir`
    ");
}

#[test]
fn mapping_rule_is_named_where_its_target_lacks_the_image() {
    let user_data = "#cloud-config\nstylus:\n  externalRegistries:\n    registries:\n      - domain: reg:5000/p\n    registryMappingRules:\n      docker.io: reg:5000/p\n";
    let all = explain_all(user_data, "nginx:1.27");
    insta::assert_snapshot!(all.lines().take(3).collect::<Vec<_>>().join("\n"), @r"
    NotFound
      image `nginx:1.27` cannot be fetched from registry `reg:5000`: it does not have `reg:5000/p/library/nginx:1.27`
      hint: push it there, or correct the image at profile.yaml:21:26 or the mapping rule at user-data.yaml:7:7
    ");
}

#[test]
fn registry_that_nobody_configured() {
    insta::assert_snapshot!(explain_all("#cloud-config\nstylus: {}\n", "nginx:1.27"), @r"
    NotFound
      image `nginx:1.27` cannot be fetched from registry `docker.io`: it does not have `docker.io/library/nginx:1.27`
      hint: correct the image at profile.yaml:21:26
    Unauthorized
      image `nginx:1.27` cannot be fetched from registry `docker.io`: it asks for a login, and none is given
      hint: add `docker.io` with a login to `stylus.externalRegistries.registries` in the user-data
    Forbidden
      image `nginx:1.27` cannot be fetched from registry `docker.io`: anonymous users may not pull from `library/nginx`
      hint: add `docker.io` with a login to `stylus.externalRegistries.registries` in the user-data
    RateLimited { after: None }
      image `nginx:1.27` cannot be fetched from registry `docker.io`: it allows no more requests for now
      hint: wait, or add `docker.io` with a login to `stylus.externalRegistries.registries` in the user-data
    Unreachable
      image `nginx:1.27` cannot be fetched from registry `docker.io`: it does not answer: the cause
      hint: check that `docker.io` can be reached from this host, or set `stylus.registryCredentials.domain` in the user-data to a registry that can
    BadTls
      image `nginx:1.27` cannot be fetched from registry `docker.io`: the cause
      hint: add the PEM of the authority that signed it to `stylus.site.caCerts` in the user-data
    Corrupt
      image `nginx:1.27` cannot be fetched from registry `docker.io`: the bytes are not those that their digest names: the cause
      hint: push the image to `docker.io` again, and look for a proxy that changes what passes through it
    Protocol
      image `nginx:1.27` cannot be fetched from registry `docker.io`: it answers like no registry: the cause
      hint: check that a registry, and nothing else, listens at `docker.io`
    Local
      image `nginx:1.27` cannot be fetched from registry `docker.io`: this host failed: the cause
      hint: look at the free space and the permissions of `landfall.stateDir`
    ");
}

#[test]
fn provider_registry_is_mended_in_the_profile() {
    let all = explain_all("#cloud-config\nstylus: {}\n", "os.example.io/edge:1");
    insta::assert_snapshot!(all.lines().skip(3).take(3).collect::<Vec<_>>().join("\n"), @r"
    Unauthorized
      image `os.example.io/edge:1` cannot be fetched from registry `os.example.io`: it refuses the password of user `builder`
      hint: correct `packs[os].values.providerCredentials.password` at profile.yaml:14:23
    ");
}

#[test]
fn several_candidates_are_told_in_turn_with_the_hint_of_the_first() {
    let joined = Explanation::join(vec![
        Explanation::new("a failed", "correct a"),
        Explanation::new("b failed", "correct b"),
    ]);
    assert_eq!(joined.line(), "a failed; then b failed; hint: correct a");
}

#[test]
fn image_that_may_not_be_fetched_from_anywhere_is_brought_by_hand() {
    let (settings, _) = mk_site("#cloud-config\nstylus: {}\n");
    let image = settings
        .images
        .iter()
        .find(|image| image.source == "nginx:1.27")
        .unwrap();
    insta::assert_snapshot!(explain_no_source(image).line(), @"image `nginx:1.27` cannot be fetched from any registry: sync from the origin is off; hint: push it to the primary registry by hand, or set `content.sync.enable: true` in the registry-connect pack; the image is listed at profile.yaml:21:26");
}

#[test]
fn no_explanation_holds_a_password() {
    let user_data = "#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg:5000\n    username: edge\n    password: canary\n";
    for source in ["nginx:1.27", "os.example.io/edge:1"] {
        assert!(!explain_all(user_data, source).contains("canary"));
    }
}

#[test]
fn certificate_that_more_trust_does_not_mend_gets_a_hint_of_its_own() {
    let (settings, planned) =
        mk_site("#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg:5000\n    certificates: []\n");
    let image = settings
        .images
        .iter()
        .position(|image| image.source == "nginx:1.27")
        .unwrap();
    let planned = planned.iter().find(|planned| planned.image == image).unwrap();
    let problems = [
        TlsProblem::Expired,
        TlsProblem::NotYetValid,
        TlsProblem::WrongName,
        TlsProblem::ClientCertificate,
        TlsProblem::NotTls,
        TlsProblem::Handshake,
    ];
    let told = problems.map(|problem| {
        let fault = Fault::Tls {
            problem,
            registry: String::new(),
            source: None,
        };
        let error = TransferError {
            attempt: "cannot fetch".to_owned(),
            kind: fault.kind(),
            source: Some(Box::new(fault)),
        };
        let explained = explain_fetch(&settings, &settings.images[image], &planned.pull[0], &error);
        format!("{}\n  hint: {}", explained.message, explained.hint)
    });
    insta::assert_snapshot!(told.join("\n"), @r"
    image `nginx:1.27` cannot be fetched from registry `reg:5000`: its certificate has expired
      hint: renew the registry's certificate, if this machine's clock is right
    image `nginx:1.27` cannot be fetched from registry `reg:5000`: its certificate is not valid yet: is this machine's clock right?
      hint: set this machine's clock
    image `nginx:1.27` cannot be fetched from registry `reg:5000`: its certificate is for another name
      hint: name it as its certificate does in `stylus.registryCredentials.domain` at user-data.yaml:4:13, or renew the certificate with the name `reg:5000`
    image `nginx:1.27` cannot be fetched from registry `reg:5000`: the registry asks for a client certificate, and was shown none that it accepts
      hint: put a certificate that the registry accepts, and its key, into `/etc/docker/certs.d/reg:5000/` as `client.cert` and `client.key`
    image `nginx:1.27` cannot be fetched from registry `reg:5000`: the server speaks plain HTTP, and the registry is not marked `insecure`
      hint: set `stylus.registryCredentials.insecure` beside user-data.yaml:4:13 to true, or serve the registry over TLS
    image `nginx:1.27` cannot be fetched from registry `reg:5000`: the TLS handshake failed
      hint: check that a TLS server listens at this address and port
    ");
}

#[test]
fn full_disk_of_this_host_gets_the_advice_of_the_store() {
    let (settings, planned) = mk_site("#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg:5000\n");
    let (planned, image) = (&planned[0], &settings.images[planned[0].image]);
    let full = StoreError::NoSpace {
        free: 1,
        floor: 1,
        incoming: 5,
    };
    let explained = explain_fetch(
        &settings,
        image,
        &planned.pull[0],
        &full.during("cannot fetch".to_owned()),
    );
    assert_eq!(explained.hint, MAKE_ROOM);
}
