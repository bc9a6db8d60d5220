//! Selection of events: since when, of which kind, reason and subject.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, Event, EventKind, EventReason};

/// Events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventList {
    /// The version of this type: `landfall.dev/v1alpha1`.
    pub api_version: String,
    /// `EventList`.
    pub kind: String,
    /// The events, oldest first.
    pub events: Vec<Event>,
}

impl EventList {
    #[must_use]
    pub fn new(events: Vec<Event>) -> EventList {
        EventList {
            api_version: API_VERSION.to_owned(),
            kind: "EventList".to_owned(),
            events,
        }
    }
}

/// Start of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Events with a greater sequence number than this.
    Sequence(u64),
    /// Events at this time and later.
    Time(Timestamp),
}

/// Conditions that an event has to meet. Without any, each event is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSelection {
    pub since: Option<Since>,
    pub kind: Option<EventKind>,
    /// Reasons, of which the event has one; empty for all.
    pub reasons: Vec<EventReason>,
    /// Text that the subject contains.
    pub subject: Option<String>,
}

impl EventSelection {
    #[must_use]
    pub fn selects(&self, event: &Event) -> bool {
        let is_in_time = match self.since {
            Some(Since::Sequence(sequence)) => event.sequence > sequence,
            Some(Since::Time(time)) => event.time >= time,
            None => true,
        };
        is_in_time
            && self.kind.is_none_or(|kind| event.kind == kind)
            && (self.reasons.is_empty() || self.reasons.contains(&event.reason))
            && self
                .subject
                .as_deref()
                .is_none_or(|subject| event.subject.contains(subject))
    }

    /// Returns the selected events; with `tail`, the last ones of them.
    #[must_use]
    pub fn select(&self, events: Vec<Event>, tail: Option<usize>) -> Vec<Event> {
        let mut selected: Vec<Event> = events.into_iter().filter(|event| self.selects(event)).collect();
        let surplus = tail.map_or(0, |tail| selected.len().saturating_sub(tail));
        selected.drain(..surplus);
        selected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_event(sequence: u64, kind: EventKind, reason: EventReason, subject: &str) -> Event {
        Event {
            sequence,
            time: Timestamp::from_second(i64::try_from(sequence).unwrap() * 60).unwrap(),
            kind,
            reason,
            subject: subject.to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn conditions_select_together_and_the_last_ones_are_kept() {
        let events = vec![
            mk_event(1, EventKind::Normal, EventReason::AgentStarted, "agent"),
            mk_event(
                2,
                EventKind::Normal,
                EventReason::ImageStored,
                "docker.io/library/nginx:1.27",
            ),
            mk_event(
                3,
                EventKind::Warning,
                EventReason::ImageFailed,
                "docker.io/library/redis:7",
            ),
            mk_event(
                4,
                EventKind::Warning,
                EventReason::LoadFailed,
                "docker.io/library/nginx:1.27",
            ),
        ];
        let all = EventSelection::default();
        let since = |since| EventSelection {
            since: Some(since),
            ..all.clone()
        };
        let kind = EventSelection {
            kind: Some(EventKind::Warning),
            ..all.clone()
        };
        let reasons = EventSelection {
            reasons: vec![EventReason::ImageFailed, EventReason::ImageStored],
            ..all.clone()
        };
        let subject = EventSelection {
            subject: Some("nginx".to_owned()),
            ..all.clone()
        };
        let both = EventSelection {
            kind: Some(EventKind::Warning),
            ..subject.clone()
        };
        let at_180 = Since::Time(Timestamp::from_second(180).unwrap());
        for (case, selection, tail, expected) in [
            ("no condition", all.clone(), None, &[1, 2, 3, 4][..]),
            ("after a number", since(Since::Sequence(2)), None, &[3, 4]),
            ("from a time on", since(at_180), None, &[3, 4]),
            ("a kind", kind.clone(), None, &[3, 4]),
            ("two reasons", reasons, None, &[2, 3]),
            ("a subject", subject, None, &[2, 4]),
            ("a kind and a subject", both, None, &[4]),
            ("the last two", all.clone(), Some(2), &[3, 4]),
            ("the last one of a kind", kind, Some(1), &[4]),
            ("more than there are", all.clone(), Some(9), &[1, 2, 3, 4]),
            ("none", all.clone(), Some(0), &[]),
        ] {
            let selected = selection.select(events.clone(), tail);
            let numbers: Vec<u64> = selected.iter().map(|event| event.sequence).collect();
            assert_eq!(numbers, expected, "{case}");
        }
    }
}
