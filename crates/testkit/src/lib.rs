//! What the tests share: scratch git repositories, result directories, scriptable fakes.
