//! Scope of a request: the least access that it needs.

use landfall_core::reference::Repository;

/// Access that a request needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Access without any repository.
    Ping,
    Catalog,
    Pull(Repository),
    /// Read and write.
    Push(Repository),
    /// Write to one repository and read another one.
    Mount {
        to: Repository,
        from: Repository,
    },
    /// The user's own login, for an API beside the distribution's.
    Login,
}

impl Scope {
    /// Returns the scopes in the form of the distribution's token specification.
    pub(super) fn to_token_scopes(&self) -> Vec<String> {
        match self {
            Scope::Ping | Scope::Login => Vec::new(),
            Scope::Catalog => vec!["registry:catalog:*".to_owned()],
            Scope::Pull(repository) => vec![format!("repository:{repository}:pull")],
            Scope::Push(repository) => vec![format!("repository:{repository}:pull,push")],
            Scope::Mount { to, from } => vec![format!("repository:{to}:pull,push"), format!("repository:{from}:pull")],
        }
    }

    /// Returns the repository whose login applies; `None` stands for the registry as a whole.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Scope::Ping | Scope::Catalog | Scope::Login => None,
            Scope::Pull(repository) | Scope::Push(repository) | Scope::Mount { to: repository, .. } => Some(repository),
        }
    }
}
