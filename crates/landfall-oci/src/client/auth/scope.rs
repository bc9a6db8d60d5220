//! What a request needs to be allowed: the least that the step can do with.

use landfall_core::reference::Repository;

/// What a request needs to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Nothing but to be let in.
    Ping,
    /// To list the repositories.
    Catalog,
    /// To read a repository.
    Pull(Repository),
    /// To read and write a repository.
    Push(Repository),
    /// To write a repository and read another one.
    Mount {
        /// Where to.
        to: Repository,
        /// Where from.
        from: Repository,
    },
    /// The user's own login: an API beside the distribution's.
    Login,
}

impl Scope {
    /// The scopes of the distribution's token specification.
    pub(super) fn to_token_scopes(&self) -> Vec<String> {
        match self {
            Scope::Ping | Scope::Login => Vec::new(),
            Scope::Catalog => vec!["registry:catalog:*".to_owned()],
            Scope::Pull(repository) => vec![format!("repository:{repository}:pull")],
            Scope::Push(repository) => vec![format!("repository:{repository}:pull,push")],
            Scope::Mount { to, from } => vec![format!("repository:{to}:pull,push"), format!("repository:{from}:pull")],
        }
    }

    /// The repository whose login it is for; `None` is the registry as a whole.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Scope::Ping | Scope::Catalog | Scope::Login => None,
            Scope::Pull(repository) | Scope::Push(repository) | Scope::Mount { to: repository, .. } => Some(repository),
        }
    }
}
