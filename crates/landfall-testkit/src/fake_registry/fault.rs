//! What can be made to go wrong.

use std::time::Duration;

/// Something that goes wrong with some requests.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only requests with this method; all when empty.
    pub method: &'static str,
    /// Only requests whose path and query contain this.
    pub path: String,
    /// How many requests it happens to; after that it is gone.
    pub times: u32,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// A fault that happens once to a `GET`.
    #[must_use]
    pub fn once(path: &str, effect: Effect) -> Fault {
        Fault {
            method: "GET",
            path: path.to_owned(),
            times: 1,
            effect,
        }
    }

    /// The same fault for another method.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Fault {
        self.method = method;
        self
    }

    /// The same fault that happens more than once.
    #[must_use]
    pub fn times(mut self, times: u32) -> Fault {
        self.times = times;
        self
    }

    /// The same fault for ever.
    #[must_use]
    pub fn always(self) -> Fault {
        self.times(u32::MAX)
    }
}

/// What happens to a request. Effects on a body happen to the right answer.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Another status, with these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The answer comes late.
    Delay(Duration),
    /// The connection ends after so many bytes of the body.
    CutBodyAfter(usize),
    /// Nothing comes any more after so many bytes of the body, and the connection stays.
    StallBodyAfter(usize),
    /// One bit of the body is another one.
    FlipBit,
    /// The body is shorter, and `Content-Length` says so.
    Truncate(usize),
    /// `Range` is passed over: all of the body comes, with 200.
    IgnoreRange,
    /// Another first byte than the one asked for.
    ShiftRange,
    /// A redirect to this URL.
    Redirect(String),
    /// The connection ends without an answer, after so many bytes of the request's body.
    CloseAfterReading(usize),
    /// The request's body is never read, and no answer comes.
    NeverRead,
    /// `Location` in the answer becomes this.
    Location(String),
    /// `Docker-Content-Digest` is left out.
    NoDigestHeader,
}

/// Takes the fault of a request out of the list, when there is one.
pub(super) fn take_fault(faults: &mut Vec<Fault>, method: &str, path: &str) -> Option<Effect> {
    let matches = |fault: &Fault| (fault.method.is_empty() || fault.method == method) && path.contains(&fault.path);
    let found = faults.iter().position(matches)?;
    let effect = faults[found].effect.clone();
    if faults[found].times <= 1 {
        faults.remove(found);
    } else if faults[found].times < u32::MAX {
        faults[found].times -= 1;
    }
    Some(effect)
}
