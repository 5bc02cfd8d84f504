//! What can go wrong with a request, and what the client is told: a status, one line, no internals.

use http::StatusCode;

use crate::route::RouteError;

/// Why a request gets no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// Only reading is possible.
    #[error("this site can only be read: use GET or HEAD")]
    Method,
    /// Not for those who do not know the token.
    #[error("{0}")]
    Refused(String),
    /// It is so already.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be done just now.
    #[error("{0}")]
    Unavailable(String),
    /// It would take too long.
    #[error("{0}")]
    TooExpensive(String),
    /// The results cannot be read; the log says why.
    #[error("the results cannot be read just now; the server's log says why")]
    Store,
    /// A view could not be written.
    #[error("this page could not be made; the server's log says why")]
    Render,
}

impl Problem {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooExpensive(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) | Self::Store => StatusCode::SERVICE_UNAVAILABLE,
            Self::Render => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the page is headed with.
    #[must_use]
    pub fn heading(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "Not found",
            Self::BadRequest(_) => "Cannot read this address",
            Self::Method => "Read only",
            Self::Refused(_) => "Refused",
            Self::Conflict(_) | Self::Unavailable(_) => "Not now",
            Self::TooExpensive(_) => "Too much at once",
            Self::Store | Self::Render => "Something is broken here",
        }
    }
}

impl From<results::Error> for Problem {
    fn from(error: results::Error) -> Self {
        if let results::Error::BranchName { .. } = error {
            return Self::NotFound("there is no such branch".into());
        }
        tracing::error!("{error}");
        Self::Store
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        tracing::error!("a page cannot be rendered: {error}");
        Self::Render
    }
}

impl From<RouteError> for Problem {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Unknown => Self::NotFound(error.to_string()),
            RouteError::Decode(_) | RouteError::Name(_) | RouteError::Parameter { .. } => {
                Self::BadRequest(error.to_string())
            }
        }
    }
}
