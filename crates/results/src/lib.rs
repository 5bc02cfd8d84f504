//! The result store: journal, one blob per commit, brotli logs; one writer, many readers.
