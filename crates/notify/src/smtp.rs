//! Mails leave by SMTP, or by a command as sendmail(8).

use std::fmt;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls as Encryption, TlsParameters};
use lettre::{SmtpTransport, Transport as _};

use crate::command;
use crate::http::SendError;
use crate::mail::Mail;

/// How mails leave.
#[derive(Clone, PartialEq, Eq)]
pub enum Transport {
    /// By SMTP.
    Smtp {
        /// The host.
        server: String,
        /// The port.
        port: u16,
        /// The encryption.
        tls: Tls,
        /// The account.
        user: Option<String>,
        /// Its password.
        password: Option<String>,
    },
    /// A command that reads the mail, as `sendmail -t -i`.
    Command(Vec<String>),
}

impl fmt::Debug for Transport {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp { server, port, tls, .. } => write!(f, "smtp://{server}:{port} ({tls:?})"),
            Self::Command(argv) => write!(f, "{argv:?}"),
        }
    }
}

/// The encryption of a connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// None.
    None,
    /// By `STARTTLS`, which the server has to support.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// The codes of errors of a log-in.
const LOGIN: [&str; 4] = ["530", "534", "535", "538"];

/// Sends a mail, and waits until the server or the command has it.
pub fn send(transport: &Transport, mail: &Mail, timeout: Duration) -> Result<(), SendError> {
    let (server, port, tls, user, password) = match transport {
        Transport::Command(argv) => {
            // A command reads lines that end as on Unix.
            let text: Vec<u8> = mail.bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
            return command::run(argv, &text, timeout);
        }
        Transport::Smtp { server, port, tls, user, password } => (server, port, tls, user, password),
    };
    let refused = |error: &dyn fmt::Display| SendError::Refused(format!("{server}:{port}: {error}"));
    let envelope =
        Envelope::new(Some(mail.from.clone()), mail.recipients.clone()).map_err(|error| refused(&error))?;
    let parameters =
        || TlsParameters::new(server.trim_matches(['[', ']']).into()).map_err(|error| refused(&error));
    let encryption = match tls {
        Tls::None => Encryption::None,
        Tls::StartTls => Encryption::Required(parameters()?),
        Tls::Implicit => Encryption::Wrapper(parameters()?),
    };
    let mut builder = SmtpTransport::builder_dangerous(server.trim_matches(['[', ']']))
        .port(*port)
        .tls(encryption)
        .timeout(Some(timeout));
    if let (Some(user), Some(password)) = (user, password) {
        builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
    }
    builder.build().send_raw(&envelope, &mail.bytes).map(drop).map_err(|error| {
        let mut text = format!("{server}:{port}: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(&format!(": {cause_text}"));
            }
            source = cause.source();
        }
        let text = crate::text::line(&text, 300);
        // A wrong password can be repaired.
        let is_login = error.status().is_some_and(|code| LOGIN.contains(&code.to_string().as_str()));
        if error.is_permanent() && !is_login { SendError::Refused(text) } else { SendError::Later(text) }
    })
}

#[cfg(test)]
mod tests;
