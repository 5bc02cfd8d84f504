//! Webhooks, signed as standardwebhooks.com describes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use crate::http::HttpRequest;
use crate::report::Report;

/// The start of a secret.
const PREFIX: &str = "whsec_";

#[derive(Serialize)]
struct Body<'a> {
    /// `finding.broke`
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    data: &'a Report,
}

/// The JSON of a finding: `{"type": "finding.broke", "timestamp": "2026-12-01T07:00:00Z", "data": {...}}`.
#[must_use]
pub fn body(report: &Report) -> Vec<u8> {
    let body = Body {
        kind: format!("finding.{}", report.finding.kind),
        timestamp: timestamp(report.finding.at),
        data: report,
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

pub(crate) fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// The request of a finding. `secret` is `whsec_` and base64, or any other text; `now` in Unix seconds.
#[must_use]
pub fn request(url: &str, secret: Option<&str>, report: &Report, now: i64) -> HttpRequest {
    let body = body(report);
    let id = format!("finding_{}", report.finding.id);
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.clone()),
        ("webhook-timestamp", now.to_string()),
    ];
    headers.extend(secret.map(|secret| ("webhook-signature", signature(secret, &id, now, &body))));
    HttpRequest { method: "POST", url: url.into(), headers, body }
}

fn signature(secret: &str, id: &str, now: i64, body: &[u8]) -> String {
    let key = secret.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    let key = key.unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut mac = match Hmac::<Sha256>::new_from_slice(&key) {
        Ok(mac) => mac,
        // A key can have any length.
        Err(_) => return String::new(),
    };
    mac.update(format!("{id}.{now}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// The values of the test of the reference implementation of the specification.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let found = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(found, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_request_has_an_id_that_stays() {
        let report = sample::report(model::FindingKind::Broke);
        let (one, two) = (
            request("https://x.example", Some("s"), &report, 5),
            request("https://x.example", None, &report, 9),
        );
        assert_eq!(one.headers[1], two.headers[1]);
        assert_eq!((one.headers.len(), two.headers.len()), (4, 3));
        let body: serde_json::Value = serde_json::from_slice(&one.body).unwrap();
        assert_eq!(body["type"], "finding.broke");
        assert_eq!(body["data"]["tests"][0], "fs.ext4.basic.punch");
    }
}
