//! The rules as a MutatingAdmissionPolicy (`admissionregistration.k8s.io/v1`): redirection inside the API server,
//! without webhook and certificate. Rules that its expressions cannot express are listed as gaps.
//!
//! CEL has no user-defined functions. The policy therefore has one variable for each step: the image fields of the pod,
//! their canonical references, and the redirected references. Everywhere else, [`crate::resolve::Resolver`] selects the
//! rule for an image; a test against a real API server checks that both agree.

use serde_json::{Value, json};

use crate::cluster::configuration::{ADMISSION_GROUP, match_resources};
use crate::cluster::{CONFIGURATION_NAME, WEBHOOK_NAME};
use crate::hostconf::{Fragment, Gap, Rendering};
use crate::settings::{MappingRule, RegistryRole, RulePrefix, Settings};
use crate::yaml_out::render_yaml;

/// Renders the policy of these settings, and its binding, for `kubectl apply`.
#[must_use]
pub fn render_admission_policy(settings: &Settings) -> Rendering {
    let documents = objects(settings).map(|object| render_yaml(&object).expect("a JSON object has a YAML form"));
    let gaps = gaps(settings);
    // A reader of the file has not seen the messages of the command that wrote it.
    let said: String = gaps
        .iter()
        .map(|gap| format!("# not expressed by this policy: {gap}\n"))
        .collect();
    Rendering {
        fragments: vec![Fragment {
            place: "the cluster, by `kubectl apply -f -`".to_owned(),
            text: said + &documents.join("---\n"),
        }],
        gaps,
        ..Rendering::default()
    }
}

fn objects(settings: &Settings) -> [Value; 2] {
    let failure = settings.landfall.webhook.failure.name();
    let variable = |name: &str, expression: String| json!({ "name": name, "expression": expression });
    let policy = json!({
        "apiVersion": format!("{ADMISSION_GROUP}/v1"),
        "kind": "MutatingAdmissionPolicy",
        "metadata": { "name": WEBHOOK_NAME },
        "spec": {
            "failurePolicy": failure,
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": match_resources(settings),
            "matchConditions": [{
                "name": "no-mirror-pod",
                "expression": "!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)",
            }],
            "variables": [
                variable("before", format!(
                    "request.operation == 'CREATE' ? [] : ({}).map(p, p.list + '/' + p.name + '=' + p.image)",
                    image_fields("oldObject")
                )),
                variable("places", format!(
                    "({}).filter(p, !((p.list + '/' + p.name + '=' + p.image) in variables.before) && {NOT_LEFT_ALONE})",
                    image_fields("object")
                )),
                variable("hosted", format!(
                    "variables.places.map(p, {}).map(p, {})",
                    with(SAME_HOST, WITHOUT_SCHEME),
                    with(HOST, SAME_REFERENCE),
                )),
                variable("canonical", format!(
                    "variables.hosted.filter(p, p.host != 'localhost').map(p, {}).map(p, {}).filter(p, {} && {FITS})",
                    with(SAME_HOST, WITH_HOST),
                    with(SAME_HOST, WITH_LIBRARY),
                    is_reference(),
                )),
                variable("redirected", format!(
                    "variables.canonical.map(p, {}).filter(p, {FITS})",
                    with(SAME_HOST, &target(settings)),
                )),
            ],
            "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": { "expression": apply() },
            }],
        },
    });
    let binding = json!({
        "apiVersion": format!("{ADMISSION_GROUP}/v1"),
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": { "name": CONFIGURATION_NAME },
        "spec": { "policyName": WEBHOOK_NAME },
    });
    [policy, binding]
}

/// CEL: true for images that may change. Excluded are empty images, Istio's `auto`, pull policy `Never`, and image IDs.
const NOT_LEFT_ALONE: &str =
    "p.image != '' && p.image != 'auto' && p.pull != 'Never' && !p.image.matches('^(sha256:)?[a-f0-9]{64}$')";

const SAME_HOST: &str = "p.host";
const SAME_REFERENCE: &str = "p.ref";

const WITHOUT_SCHEME: &str = "p.image.startsWith('docker://') ? p.image.substring(9) \
                              : p.image.startsWith('container://') ? p.image.substring(12) : p.image";

/// CEL: the registry host of the image in canonical form; empty if the image names none.
const HOST: &str = "!p.ref.contains('/') ? '' : [p.ref.split('/')[0]].map(h, \
                    h.lowerAscii() in ['docker.io', 'index.docker.io', 'registry-1.docker.io'] ? 'docker.io' \
                    : h.contains('.') || h.contains(':') || h.lowerAscii() == 'localhost' ? h.lowerAscii() \
                    : h != h.lowerAscii() ? h : '')[0]";

const WITH_HOST: &str = "p.host == '' ? 'docker.io/' + p.ref : p.host + p.ref.substring(p.ref.indexOf('/'))";

/// CEL: adds `library` to the short names of Docker Hub.
const WITH_LIBRARY: &str = "p.ref.startsWith('docker.io/') && p.ref.split('/').size() == 2 \
                            ? 'docker.io/library/' + p.ref.split('/')[1] : p.ref";

/// CEL: true if the repository path is not empty and not longer than the grammar allows. An empty `p.ref` means
/// "unchanged" and does not match.
const FITS: &str = "p.ref.matches('^[^/]+/[^:@]{1,255}([:@].*)?$')";

/// Renders the CEL condition that `p.ref` is a reference by the grammar of [`crate::reference`], at a host that is no
/// IPv6 address. An IPv6 address would need too many replacements to become a path component in a readable policy.
fn is_reference() -> String {
    let label = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?";
    let component = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*";
    let digest = "@(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})";
    format!(
        "p.ref.matches('^{label}([.]{label})*(:[0-9]+)?/{component}(/{component})*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?({digest})?$')"
    )
}

/// Renders a copy of the image field `p` with another host and reference.
fn with(host: &str, reference: &str) -> String {
    format!("{{'list': p.list, 'name': p.name, 'image': p.image, 'pull': p.pull, 'host': {host}, 'ref': {reference}}}")
}

/// Renders the list of all image fields of a pod, each as a map of strings: CEL's type checker requires one value type
/// in a map.
fn image_fields(object: &str) -> String {
    let containers = |list: &str| {
        format!(
            "(has({object}.spec.{list}) ? {object}.spec.{list}.map(c, {{'list': '{list}', 'name': string(c.name), \
             'image': has(c.image) ? string(c.image) : '', 'pull': has(c.imagePullPolicy) ? string(c.imagePullPolicy) : '', 'host': '', 'ref': ''}}) : [])"
        )
    };
    let volumes = format!(
        "(has({object}.spec.volumes) ? {object}.spec.volumes.filter(v, has(v.image) && has(v.image.reference)).map(v, \
         {{'list': 'volumes', 'name': string(v.name), 'image': string(v.image.reference), \
         'pull': has(v.image.pullPolicy) ? string(v.image.pullPolicy) : '', 'host': '', 'ref': ''}}) : [])"
    );
    [
        containers("initContainers"),
        containers("containers"),
        containers("ephemeralContainers"),
        volumes,
    ]
    .join(" + ")
}

/// Renders the redirected form of a canonical reference; empty if it stays unchanged.
fn target(settings: &Settings) -> String {
    let mut expression = String::new();
    let mut when = |condition: &str, value: &str| {
        expression.push_str(&format!("{condition} ? {value} : "));
    };
    if let Some(primary) = &settings.primary {
        when(&below(primary.endpoint.as_str(), &primary.project), "''");
    }
    for rule in &settings.rules {
        when(&below(rule.to_host.as_str(), &rule.to_path), "''");
    }
    for rule in by_length(settings) {
        if let RulePrefix::Path { host, path } = &rule.from {
            let from = join(host.as_str(), path);
            let to = literal(&join(rule.to_host.as_str(), &rule.to_path));
            // If the rest of the name is empty, `FITS` leaves the image unchanged.
            when(
                &below(host.as_str(), path),
                &format!("{to} + p.ref.substring({})", from.len()),
            );
        }
    }
    let all = settings.rules.iter().find(|rule| rule.from == RulePrefix::All);
    let externals: Vec<_> = settings
        .registries
        .iter()
        .filter(|registry| registry.role == RegistryRole::External)
        .collect();
    if let Some(rule) = all {
        return expression + &prepend(&join(rule.to_host.as_str(), &rule.to_path));
    }
    for registry in &externals {
        when(&below(registry.host.as_str(), &registry.path), "''");
    }
    match (settings.rules.is_empty(), externals.as_slice()) {
        (true, [only]) => expression + &prepend(&only.address()),
        _ => expression + "''",
    }
}

/// Returns the rules in order of evaluation: the longest prefix first.
fn by_length(settings: &Settings) -> Vec<&MappingRule> {
    let mut rules: Vec<&MappingRule> = settings.rules.iter().collect();
    rules.sort_by_key(|rule| match &rule.from {
        RulePrefix::All => 0,
        RulePrefix::Path { path, .. } => usize::MAX - path.len(),
    });
    rules
}

/// Renders the condition that `p.ref` is below a prefix, by whole segments.
fn below(host: &str, path: &str) -> String {
    if path.is_empty() {
        return format!("p.ref.startsWith({})", literal(&format!("{host}/")));
    }
    let prefix = join(host, path);
    let starts = ["/", ":", "@"].map(|end| format!("p.ref.startsWith({})", literal(&format!("{prefix}{end}"))));
    format!("(p.ref == {} || {})", literal(&prefix), starts.join(" || "))
}

fn prepend(target: &str) -> String {
    format!(
        "{} + p.ref.split('/')[0].lowerAscii().replace(':', '_') + p.ref.substring(p.ref.indexOf('/'))",
        literal(&format!("{target}/"))
    )
}

fn join(host: &str, path: &str) -> String {
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

/// Quotes a host or path for CEL. Their grammar forbids quotes and backslashes.
fn literal(text: &str) -> String {
    format!("'{text}'")
}

/// Renders the mutation: lists merge by name, and unnamed fields stay.
fn apply() -> String {
    let containers = |list: &str| {
        format!(
            "{list}: variables.redirected.filter(p, p.list == '{list}').map(p, Object.spec.{list}{{name: p.name, image: p.ref}})"
        )
    };
    format!(
        "Object{{spec: Object.spec{{{}, {}, {}, volumes: variables.redirected.filter(p, p.list == 'volumes').map(p, \
         Object.spec.volumes{{name: p.name, image: Object.spec.volumes.image{{reference: p.ref}}}})}}}}",
        containers("initContainers"),
        containers("containers"),
        containers("ephemeralContainers"),
    )
}

fn gaps(settings: &Settings) -> Vec<Gap> {
    let mut gaps = vec![
        "it needs Kubernetes 1.36; in 1.34 and 1.35 write `v1beta1` for `v1` and switch its feature gate on".to_owned(),
        "there is no annotation with the originals, no reason in the audit log, and no metric".to_owned(),
        "pods that were created before the policy stay as they are: there is no sweeper".to_owned(),
        "images of registries at an IPv6 address are left as they are".to_owned(),
        "a reference that cannot be read is left as it is, with no warning".to_owned(),
    ];
    if let Some(primary) = &settings.primary {
        gaps.push(format!(
            "the API server does not know what the primary registry `{}` holds: no image is redirected to it",
            primary.endpoint
        ));
    }
    if settings.landfall.webhook.observe_only {
        gaps.push("a policy cannot only observe (`landfall.webhook.observeOnly`): it changes images".to_owned());
    }
    gaps.into_iter().map(Gap::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, parse_settings};
    use crate::diagnostic::NamedText;

    fn mk_settings(stylus: &str) -> Settings {
        let inputs = Inputs {
            user_data: vec![NamedText::new(
                "user-data.yaml",
                &format!("#cloud-config\nstylus:\n{stylus}"),
            )],
            ..Inputs::default()
        };
        parse_settings(&inputs).0.unwrap()
    }

    const RULES: &str = "  externalRegistries:\n    registries: [{domain: ex.com, username: u, password: p}]\n    \
                         registryMappingRules: {gcr.io/a: ex.com/short, gcr.io/a/b: ex.com/long, quay.io: other.io}\n";

    #[test]
    fn longest_rule_is_asked_first_and_targets_are_left_alone() {
        insta::assert_snapshot!(target(&mk_settings(RULES)), @r#"(p.ref == 'ex.com/short' || p.ref.startsWith('ex.com/short/') || p.ref.startsWith('ex.com/short:') || p.ref.startsWith('ex.com/short@')) ? '' : (p.ref == 'ex.com/long' || p.ref.startsWith('ex.com/long/') || p.ref.startsWith('ex.com/long:') || p.ref.startsWith('ex.com/long@')) ? '' : p.ref.startsWith('other.io/') ? '' : (p.ref == 'gcr.io/a/b' || p.ref.startsWith('gcr.io/a/b/') || p.ref.startsWith('gcr.io/a/b:') || p.ref.startsWith('gcr.io/a/b@')) ? 'ex.com/long' + p.ref.substring(10) : (p.ref == 'gcr.io/a' || p.ref.startsWith('gcr.io/a/') || p.ref.startsWith('gcr.io/a:') || p.ref.startsWith('gcr.io/a@')) ? 'ex.com/short' + p.ref.substring(8) : p.ref.startsWith('quay.io/') ? 'other.io' + p.ref.substring(7) : p.ref.startsWith('ex.com/') ? '' : ''"#);
    }

    #[test]
    fn the_only_external_registry_is_prepended() {
        let settings = mk_settings("  registryCredentials: {domain: \"reg:5000/mirror\", username: u, password: p}\n");
        insta::assert_snapshot!(target(&settings), @r#"(p.ref == 'reg:5000/mirror' || p.ref.startsWith('reg:5000/mirror/') || p.ref.startsWith('reg:5000/mirror:') || p.ref.startsWith('reg:5000/mirror@')) ? '' : 'reg:5000/mirror/' + p.ref.split('/')[0].lowerAscii().replace(':', '_') + p.ref.substring(p.ref.indexOf('/'))"#);
    }

    #[test]
    fn what_a_policy_cannot_say_is_said() {
        let has = |settings: &Settings, word: &str| {
            let gaps = render_admission_policy(settings).gaps;
            gaps.iter().any(|gap| gap.text.contains(word))
        };
        let mut settings = mk_settings(RULES);
        assert!(!has(&settings, "observeOnly"));
        settings.landfall.webhook.observe_only = true;
        assert!(has(&settings, "observeOnly"));
    }
}
