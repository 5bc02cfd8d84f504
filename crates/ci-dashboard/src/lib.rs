//! The web pages and JSON views over the results, as an HTTP server or a CGI program.
