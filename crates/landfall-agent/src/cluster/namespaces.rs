//! The choices that namespaces make by their labels. Two watches ask for such namespaces only, so that the memory for
//! them does not depend on the number of other namespaces.

use std::collections::HashMap;

use camino::Utf8Path;
use futures_util::StreamExt as _;
use futures_util::stream::select;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use landfall_core::opt_out::{DISABLED, NODE, OptOut, PALETTE_DISABLED, PALETTE_LABEL, REDIRECT_LABEL};
use tokio_util::sync::CancellationToken;

use super::context::ClusterContext;
use crate::kube::Cluster;

/// Passes every change to the reviewer until `stop` is cancelled.
pub(crate) async fn follow_choices(context: &ClusterContext, cluster: &Cluster, stop: CancellationToken) {
    // No selector expresses "or": there is one watch for each label. A namespace that loses the label arrives as
    // deleted.
    let ours = cluster.watch_namespaces(&format!("{REDIRECT_LABEL} in ({DISABLED},{NODE})"));
    let palettes = cluster.watch_namespaces(&format!("{PALETTE_LABEL}={PALETTE_DISABLED}"));
    let events = select(ours.map(|event| (0, event)), palettes.map(|event| (1, event)));
    let mut events = std::pin::pin!(events);
    let mut choices = [Choices::default(), Choices::default()];
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = events.next() => next,
        };
        // Watches do not end, unless the library has an error. Then the known choices stay.
        let Some((watch, event)) = next else {
            return stop.cancelled().await;
        };
        let watched: &mut Choices = &mut choices[watch];
        if watched.take(event) {
            context.reviewer.replace_choices(merge(&choices));
        }
    }
}

/// Fetches the choice that a namespace makes by its labels; `Ok(None)` if it makes none.
///
/// # Errors
///
/// If the cluster cannot be asked, or has no such namespace.
pub async fn fetch_namespace_choice(kubeconfig: &Utf8Path, name: &str) -> anyhow::Result<Option<OptOut>> {
    let cluster = Cluster::connect(Some(kubeconfig), "default").await?;
    let Some(found) = cluster.fetch_namespace(name).await? else {
        anyhow::bail!("`{}` has no namespace `{name}`", cluster.server());
    };
    Ok(choice_of(&found))
}

/// Returns the choice of a namespace by its labels.
fn choice_of(namespace: &PartialObjectMeta<Namespace>) -> Option<OptOut> {
    let labels = namespace.labels().iter();
    OptOut::of_labels(labels.map(|(key, value)| (key.as_str(), value.as_str())))
}

/// The choices that one watch reported.
#[derive(Debug, Default)]
struct Choices {
    known: HashMap<String, OptOut>,
    /// The items of a list in progress. They replace the known choices when the list is complete.
    listed: HashMap<String, OptOut>,
}

impl Choices {
    /// Applies an event. Returns true if a choice changed.
    fn take(&mut self, event: Event<PartialObjectMeta<Namespace>>) -> bool {
        match event {
            Event::Init => {
                self.listed.clear();
                false
            }
            Event::InitApply(namespace) => {
                if let Some(choice) = choice_of(&namespace) {
                    self.listed.insert(namespace.name_any(), choice);
                }
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let changed = listed != self.known;
                self.known = listed;
                changed
            }
            Event::Apply(namespace) => match choice_of(&namespace) {
                Some(choice) => self.known.insert(namespace.name_any(), choice) != Some(choice),
                None => self.known.remove(&namespace.name_any()).is_some(),
            },
            Event::Delete(namespace) => self.known.remove(&namespace.name_any()).is_some(),
        }
    }
}

fn merge(choices: &[Choices; 2]) -> HashMap<String, OptOut> {
    let mut merged = HashMap::new();
    for (name, choice) in choices.iter().flat_map(|choices| &choices.known) {
        let kept = merged.entry(name.clone()).or_insert(*choice);
        // `Disabled` has precedence over `Node`.
        *kept = (*kept).min(*choice);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_namespace(name: &str, label: &str, value: &str) -> PartialObjectMeta<Namespace> {
        let mut namespace = PartialObjectMeta::<Namespace>::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace.metadata.labels = Some([(label.to_owned(), value.to_owned())].into());
        namespace
    }

    #[test]
    fn list_replaces_what_was_known_and_changes_are_followed() {
        let mut choices = [Choices::default(), Choices::default()];
        assert!(!choices[0].take(Event::Init));
        assert!(!choices[0].take(Event::InitApply(mk_namespace("a", REDIRECT_LABEL, NODE))));
        assert_eq!(
            merge(&choices),
            HashMap::new(),
            "a list that is not complete says nothing"
        );
        assert!(choices[0].take(Event::InitDone));
        assert!(choices[1].take(Event::Apply(mk_namespace("a", PALETTE_LABEL, PALETTE_DISABLED))));
        assert!(!choices[1].take(Event::Apply(mk_namespace("a", PALETTE_LABEL, PALETTE_DISABLED))));
        assert_eq!(merge(&choices), [("a".to_owned(), OptOut::Disabled)].into());
        assert!(choices[1].take(Event::Delete(mk_namespace("a", PALETTE_LABEL, "other"))));
        assert_eq!(merge(&choices), [("a".to_owned(), OptOut::Node)].into());
        assert!(!choices[0].take(Event::Init));
        assert!(choices[0].take(Event::InitDone), "gone while the watch was down");
        assert_eq!(merge(&choices), HashMap::new());
    }
}
