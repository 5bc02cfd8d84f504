//! Git repositories: read with gix, fetched and checked out with the git command.
