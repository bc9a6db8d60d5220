//! Faults of a fake registry.

use std::time::Duration;

/// A fault in the responses to some requests.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Applies only to requests with this method; to all if empty.
    pub method: &'static str,
    /// Applies only to requests whose path and query contain this.
    pub path: String,
    /// True if it applies only to requests for a range.
    pub ranges_only: bool,
    /// Number of requests with the fault; it is removed after that.
    pub times: u32,
    pub effect: Effect,
}

impl Fault {
    /// Returns a fault that happens once to a `GET`.
    #[must_use]
    pub fn once(path: &str, effect: Effect) -> Fault {
        Fault {
            method: "GET",
            path: path.to_owned(),
            ranges_only: false,
            times: 1,
            effect,
        }
    }

    /// Returns the fault for requests for a range only.
    #[must_use]
    pub fn ranges_only(mut self) -> Fault {
        self.ranges_only = true;
        self
    }

    /// Returns the fault for another method.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Fault {
        self.method = method;
        self
    }

    /// Returns the fault for this number of requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Fault {
        self.times = times;
        self
    }

    /// Returns the fault without a limit of requests.
    #[must_use]
    pub fn always(self) -> Fault {
        self.times(u32::MAX)
    }
}

/// Effect of a fault. Effects on a body apply to the correct response.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Another status, with these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The response is delayed.
    Delay(Duration),
    /// The connection closes after this number of bytes of the body.
    CutBodyAfter(usize),
    /// The body stalls after this number of bytes, and the connection stays open.
    StallBodyAfter(usize),
    /// One bit of the body is flipped.
    FlipBit,
    /// The body is truncated to this length, and `Content-Length` matches.
    Truncate(usize),
    /// The `Range` header is ignored: the whole body is sent with 200.
    IgnoreRange,
    /// The range begins at another byte than the requested one.
    ShiftRange,
    /// A redirect to this URL.
    Redirect(String),
    /// The connection closes without a response, after this number of bytes of the request's body.
    CloseAfterReading(usize),
    /// The request's body is never read, and no response is sent.
    NeverRead,
    /// Replaces `Location` in the response.
    Location(String),
    /// Omits `Docker-Content-Digest`.
    NoDigestHeader,
    /// Compresses the body with gzip unless the request asks for `identity`, and says so.
    Gzip,
    /// Compresses the body with gzip, and says so, whatever the request asks for.
    ForcedGzip,
    /// Says that the body is compressed with gzip, and leaves it as it is.
    SaysGzip,
    /// Adds `Docker-Upload-UUID`, with an ID that is no UUID of version 4.
    UploadId,
    /// Adds `OCI-Subject`.
    ListsSubject,
}

/// Removes the fault for a request from the list and returns its effect.
pub(super) fn take_fault(faults: &mut Vec<Fault>, method: &str, path: &str, is_range: bool) -> Option<Effect> {
    let matches = |fault: &Fault| {
        (fault.method.is_empty() || fault.method == method)
            && path.contains(&fault.path)
            && (is_range || !fault.ranges_only)
    };
    let found = faults.iter().position(matches)?;
    let effect = faults[found].effect.clone();
    if faults[found].times <= 1 {
        faults.remove(found);
    } else if faults[found].times < u32::MAX {
        faults[found].times -= 1;
    }
    Some(effect)
}
