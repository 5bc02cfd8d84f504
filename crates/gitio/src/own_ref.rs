//! Refs that other programs can also write. Such a ref is only changed if it has the value that this function set last.

use model::{CommitId, RefName};

use crate::command::{QUICK, git};
use crate::error::GitError;
use crate::repo::Repo;

impl Repo {
    /// Sets `name` to `commit`. If the ref exists and this function did not set it to its present value, nothing is
    /// changed, and the result is an error. `record` is a directory of refs, used by nothing else, in which the value
    /// is recorded.
    pub async fn set_own_ref(
        &self,
        name: &RefName,
        record: &RefName,
        commit: &CommitId,
    ) -> Result<(), GitError> {
        // A crash between the two transactions leaves the intended value in `next`.
        let (last, next) = (format!("{record}/last"), format!("{record}/next"));
        let (now, written) = (self.raw_ref(name.as_str())?, self.raw_ref(&last)?);
        if now == RawRef::Commit(commit.clone()) && now == written {
            return Ok(());
        }
        if now != RawRef::Missing && now != written && now != self.raw_ref(&next)? {
            return Err(GitError::ForeignRef { repo: self.path().into(), name: name.to_string() });
        }
        if let Some(other) = self.conflicting_ref(name)? {
            let name = name.to_string();
            return Err(GitError::RefConflict { repo: self.path().into(), name, other });
        }
        let old = match &now {
            RawRef::Commit(old) => old.to_string(),
            _ => "0".repeat(commit.as_str().len()),
        };
        let input = format!(
            "start\nupdate {next} {commit}\ncommit\n\
             start\nupdate {name} {commit} {old}\nupdate {last} {commit}\ndelete {next}\ncommit\n"
        );
        let cmd = git(self.git_dir()).args(["update-ref", "--no-deref", "--stdin"]).input(input);
        self.run("write a ref", cmd, QUICK).await?;
        Ok(())
    }

    fn raw_ref(&self, name: &str) -> Result<RawRef, GitError> {
        let repo = self.local();
        let found = repo.try_find_reference(name).map_err(|error| self.unreadable(name, &error))?;
        Ok(match found {
            None => RawRef::Missing,
            Some(found) => match found.target().try_id() {
                Some(id) => RawRef::Commit(crate::repo::commit_id(id)),
                None => RawRef::Symbolic,
            },
        })
    }

    /// The ref that prevents `name`: a file cannot also be a directory.
    fn conflicting_ref(&self, name: &RefName) -> Result<Option<String>, GitError> {
        let repo = self.local();
        let parts: Vec<&str> = name.as_str().split('/').collect();
        for end in 3..parts.len() {
            let above = parts[..end].join("/");
            if self.raw_ref(&above)? != RawRef::Missing {
                return Ok(Some(above));
            }
        }
        let failed = |error: &(dyn std::error::Error + 'static)| self.unreadable(name.as_str(), error);
        let refs = repo.references().map_err(|error| failed(&error))?;
        let mut below = refs
            .prefixed(format!("{name}/").as_str())
            .map_err(|error| failed(&error))?
            .filter_map(Result::ok);
        Ok(below.next().map(|found| found.name().as_bstr().to_string()))
    }
}

/// The value of a ref.
#[derive(Debug, PartialEq, Eq)]
enum RawRef {
    Missing,
    Commit(CommitId),
    /// It names another ref.
    Symbolic,
}
