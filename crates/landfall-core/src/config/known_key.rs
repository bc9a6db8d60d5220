//! Types of the table of known keys: a key, the form of its value, and the finding for other keys.

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// One sentence for the docs, the schema and editors.
    pub(crate) about: &'static str,
    /// The present spelling, if this is an old one.
    pub(crate) replaced_by: Option<&'static str>,
    /// Names of other programs for the same thing.
    pub(crate) also: &'static [&'static str],
    /// The program that acts on this key, if it is not Landfall; the end of a sentence "… is run by".
    pub(crate) run_by: Option<&'static str>,
}

/// The expected form of a value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// A string, number or boolean; may be null.
    Label,
    Bool,
    /// A whole number in this range.
    Number(i64, i64),
    /// A number of bytes in this range, with or without a unit.
    Size(u64, u64),
    /// A number of seconds in this range, or a duration with a unit.
    Time(u64, u64),
    /// The number of a user or group; true if the key `ownerstring` takes the name.
    Owner(bool),
    /// A file mode.
    Mode,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A mapping of these keys.
    Map(&'static [Key], Unknown),
    /// A mapping of these keys, or the value of the first of them.
    MapOrValue(&'static [Key], Unknown),
    /// A mapping of any keys.
    MapOf(&'static Shape),
    List(&'static Shape),
    /// One value, or a list of them.
    OneOrMany(&'static Shape),
    /// A list; the schema accepts a single mapping too.
    Steps(&'static Shape),
    /// A mapping, or a string of YAML that holds one.
    Yaml,
    /// A value for another program: only the names of keys of the mappings in it are compared.
    Foreign(&'static Shape),
    /// Any value: another reader checks it, or Landfall does not use it.
    Any,
}

/// The finding for a key that is unknown and not near to a known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// None: the mapping has keys of other programs.
    Silent,
    /// A note: Palette Edge may know the key.
    Note,
    /// A note: Kairos ignores the key.
    Step,
    /// An error: all keys are ours.
    Error,
}
