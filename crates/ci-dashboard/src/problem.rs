//! The errors of requests: an HTTP status and one line for the client, without internal details.

use http::StatusCode;

use crate::route::RouteError;

/// Why a request does not get a view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The requested object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request is invalid.
    #[error("{0}")]
    BadRequest(String),
    /// The pattern of a filter is invalid.
    #[error("{0}")]
    Filter(String),
    /// The method is not supported.
    #[error("this site is read-only; use GET or HEAD")]
    Method,
    /// The token is missing or wrong.
    #[error("{0}")]
    Refused(String),
    /// The request conflicts with the current state.
    #[error("{0}")]
    Conflict(String),
    /// The request cannot be handled right now.
    #[error("{0}")]
    Unavailable(String),
    /// The request would take too long.
    #[error("{0}")]
    TooExpensive(String),
    /// The results cannot be read.
    #[error("the results cannot be read; see the server's log")]
    Store,
    /// The view cannot be rendered.
    #[error("the page cannot be rendered; see the server's log")]
    Render,
}

impl Problem {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) | Self::Filter(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooExpensive(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) | Self::Store => StatusCode::SERVICE_UNAVAILABLE,
            Self::Render => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The heading of the error page.
    #[must_use]
    pub fn heading(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "Not found",
            Self::BadRequest(_) => "Invalid request",
            Self::Filter(_) => "Invalid filter",
            Self::Method => "Read-only",
            Self::Refused(_) => "Forbidden",
            Self::Conflict(_) => "Conflict",
            Self::Unavailable(_) => "Unavailable",
            Self::TooExpensive(_) => "Filter too complex",
            Self::Store | Self::Render => "Internal error",
        }
    }
}

impl From<results::Error> for Problem {
    fn from(error: results::Error) -> Self {
        if let results::Error::BranchName { .. } = error {
            return Self::NotFound("no such branch".into());
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
