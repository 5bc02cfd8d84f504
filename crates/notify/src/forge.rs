//! The status of a commit on a forge.

use model::CommitId;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::http::HttpRequest;
use crate::text::line;

/// The maximum length of a description, in characters: that of GitHub.
const DESCRIPTION_MAX: usize = 140;

/// A kind of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forge {
    /// github.com or GitHub Enterprise.
    GitHub,
    /// A GitLab.
    GitLab,
    /// A Forgejo or Gitea.
    Forgejo,
}

/// The state of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its tests run or wait.
    Pending,
    /// They passed.
    Success,
    /// One failed, or the kernel does not build.
    Failure,
}

/// The status of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// The commit.
    pub commit: CommitId,
    /// Its state.
    pub state: State,
    /// The address of its page; empty if there is none.
    pub target_url: String,
    /// One line.
    pub description: String,
    /// The name of the check.
    pub context: String,
}

/// The request that sets the status of a commit. `base` is the address of the API, `project` is `owner/name`.
#[must_use]
pub fn request(forge: Forge, base: &str, project: &str, token: &str, status: &CommitStatus) -> HttpRequest {
    let commit = &status.commit;
    let description = line(&status.description, DESCRIPTION_MAX);
    let state = match (forge, status.state) {
        (_, State::Pending) => "pending",
        (_, State::Success) => "success",
        (Forge::GitLab, State::Failure) => "failed",
        (Forge::GitHub | Forge::Forgejo, State::Failure) => "failure",
    };
    let name = if forge == Forge::GitLab { "name" } else { "context" };
    let mut body = json!({"state": state, "description": description, name: status.context});
    if !status.target_url.is_empty() {
        body["target_url"] = status.target_url.clone().into();
    }
    let mut headers = headers(forge, token);
    headers.push(("content-type", "application/json".to_owned()));
    let url = format!("{}/statuses/{commit}", address(forge, base, project));
    HttpRequest { method: "POST", url, headers, body: body.to_string().into_bytes() }
}

/// The request that reads the repository, to check the address and the token.
#[must_use]
pub fn check(forge: Forge, base: &str, project: &str, token: &str) -> HttpRequest {
    let url = address(forge, base, project);
    HttpRequest { method: "GET", url, headers: headers(forge, token), body: Vec::new() }
}

/// The address of the repository.
fn address(forge: Forge, base: &str, project: &str) -> String {
    match forge {
        Forge::GitHub => format!("{base}/repos/{project}"),
        Forge::GitLab => format!("{base}/projects/{}", utf8_percent_encode(project, NON_ALPHANUMERIC)),
        Forge::Forgejo => format!("{base}/api/v1/repos/{project}"),
    }
}

fn headers(forge: Forge, token: &str) -> Vec<(&'static str, String)> {
    let authorization = match forge {
        Forge::GitHub => ("authorization", format!("Bearer {token}")),
        Forge::GitLab => ("private-token", token.to_owned()),
        Forge::Forgejo => ("authorization", format!("token {token}")),
    };
    vec![authorization, ("accept", "application/json".to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_forge_has_its_address_and_words() {
        let status = CommitStatus {
            commit: "a".repeat(40).parse().unwrap(),
            state: State::Failure,
            target_url: "https://ci.example.org/c/a/".into(),
            description: "3 failed\n, 20 passed".into(),
            context: "ktest".into(),
        };
        let of = |forge, base| {
            let request = request(forge, base, "group/linux", "secret", &status);
            assert!(!format!("{request:?}").contains("secret"));
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            (request.url, request.headers[0].clone(), body)
        };
        let id = "a".repeat(40);
        let (url, token, body) = of(Forge::GitHub, "https://api.github.com");
        assert_eq!(url, format!("https://api.github.com/repos/group/linux/statuses/{id}"));
        assert_eq!(
            (token.0, token.1.as_str(), &body["context"]),
            ("authorization", "Bearer secret", &json!("ktest"))
        );
        assert_eq!(
            (&body["state"], &body["description"]),
            (&json!("failure"), &json!("3 failed , 20 passed"))
        );
        let (url, token, body) = of(Forge::GitLab, "https://gitlab.com/api/v4");
        assert_eq!(url, format!("https://gitlab.com/api/v4/projects/group%2Flinux/statuses/{id}"));
        assert_eq!(
            (token.0, &body["state"], &body["name"]),
            ("private-token", &json!("failed"), &json!("ktest"))
        );
        let (url, token, _) = of(Forge::Forgejo, "https://code.example");
        assert_eq!(url, format!("https://code.example/api/v1/repos/group/linux/statuses/{id}"));
        assert_eq!(token.1, "token secret");
        let check = check(Forge::GitLab, "https://gitlab.com/api/v4", "a/b", "secret");
        assert_eq!((check.method, check.url.as_str()), ("GET", "https://gitlab.com/api/v4/projects/a%2Fb"));
    }
}
