//! Commands of a person about an update.

use std::borrow::Cow;
use std::time::Duration;

use super::facts::SiteFacts;
use super::{Change, MemberState, Repave, RepavePhase};
use crate::failure::Hint;
use crate::host_name::HostName;

/// Command of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Approve,
    /// No further host begins. A host that has its turn finishes it.
    Hold,
    /// Ends a hold, or goes on after a halt: the failed host has another turn.
    Resume,
    /// Withdraws the update, or brings the image before back to the hosts that have the new one.
    Revert,
}

/// Reason to refuse a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    #[error("the update waits for no approval")]
    NotAwaiting,
    #[error("the update is over")]
    Over,
    #[error("the update is neither held nor halted")]
    NotStopped,
    #[error("a host has its turn")]
    UnderWay,
    #[error("there is no image to go back to")]
    NoPrevious,
}

impl Hint for CommandRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            CommandRefusal::NotAwaiting | CommandRefusal::Over | CommandRefusal::NotStopped => {
                "see the state with `landfall site status`"
            }
            CommandRefusal::UnderWay => "hold the update, wait for the end of the turn, and revert it then",
            CommandRefusal::NoPrevious => "name the wanted image in the profile",
        }))
    }
}

impl Repave {
    /// Returns the update after a command. The caller makes it durable.
    ///
    /// # Errors
    /// If the command does not fit the state.
    pub fn after(&self, command: Command, site: &SiteFacts<'_>) -> Result<Repave, CommandRefusal> {
        let mut repave = self.clone();
        match (command, &self.phase) {
            (Command::Approve, RepavePhase::AwaitingApproval) => repave.phase = prefetch(),
            (Command::Approve, _) => return Err(CommandRefusal::NotAwaiting),
            (Command::Hold, _) if self.is_over() => return Err(CommandRefusal::Over),
            (Command::Hold, _) => repave.held = true,
            (Command::Resume, RepavePhase::Halted(halt)) => {
                // A failed host comes first: the site must not go on with one host down.
                if let Some(host) = &halt.host {
                    repave.members.sort_by_key(|member| member.host != *host);
                    repave.set_member(host, MemberState::Begun);
                }
                repave.held = false;
                repave.phase = prefetch();
            }
            (Command::Resume, _) if self.held => repave.held = false,
            (Command::Resume, _) => return Err(CommandRefusal::NotStopped),
            (Command::Revert, RepavePhase::Turn(_)) => return Err(CommandRefusal::UnderWay),
            (Command::Revert, RepavePhase::Withdrawn) => return Err(CommandRefusal::Over),
            (Command::Revert, _) => repave.revert(site)?,
        }
        Ok(repave)
    }

    /// Swaps the images for the hosts that had a turn; the others have nothing to do.
    fn revert(&mut self, site: &SiteFacts<'_>) -> Result<(), CommandRefusal> {
        let is_touched = |state| state != MemberState::Waiting;
        if !self.members.iter().any(|member| is_touched(member.state)) {
            self.phase = RepavePhase::Withdrawn;
            return Ok(());
        }
        let Change::Upgrade {
            image,
            previous: Some(previous),
        } = &self.change
        else {
            return Err(CommandRefusal::NoPrevious);
        };
        // A host whose driver never ran has the image before.
        let had_run = |host: &HostName| {
            let report = site.hosts.get(host).and_then(|facts| facts.report.as_ref());
            report.is_none_or(|report| {
                let run = report.journal.run.as_ref();
                run.is_some_and(|run| run.image == image.digest) || report.runs(&image.digest) == Some(true)
            })
        };
        for member in &mut self.members {
            member.state = match is_touched(member.state) && had_run(&member.host) {
                true => MemberState::Begun,
                false => MemberState::Done,
            };
        }
        self.change = Change::Upgrade {
            image: previous.clone(),
            previous: Some(image.clone()),
        };
        // A host that is down comes first: the site must not go on without it.
        let is_up = |member: &super::Member| site.hosts.get(&member.host).is_some_and(super::HostFacts::is_up);
        self.members.sort_by_key(|member| is_up(member));
        self.held = false;
        self.phase = prefetch();
        Ok(())
    }
}

fn prefetch() -> RepavePhase {
    RepavePhase::Prefetch { spent: Duration::ZERO }
}
