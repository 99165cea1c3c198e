//! The StartTLS operation (RFC 4511, 4.14): one fixed request and one short answer.
//!
//! It is done here, since ldap3 does not tell a refusal from a lost connection.

use anyhow::{Result, bail, ensure};
use diagnostics::exit::misconfigured;
use diagnostics::wording::io_error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ldap::protocol::ber::{ENUMERATED, Elements, Header, INTEGER, OCTET_STRING, SEQUENCE};
use crate::ldap::protocol::grammar::tag;
use crate::ldap::protocol::result_code::{code_name, server_text};

/// ExtendedRequest, message 1, with the OID 1.3.6.1.4.1.1466.20037.
const REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
/// Longest answer that is accepted, in bytes.
const MAX_ANSWER: usize = 4096;

/// Asks the server to start TLS. Only the answer is read, so that no byte that was sent in the clear
/// can become part of the secured conversation.
///
/// # Errors
/// Fails with a configuration error if the server refuses or is no LDAP server. Fails too if the
/// connection is lost.
pub async fn negotiate(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
    match exchange(stream).await {
        Ok(Some(answer)) => check(&answer),
        Ok(None) => Err(not_ldap()),
        Err(error) => bail!("connection lost during StartTLS: {}", io_error(&error)),
    }
}

/// Sends the request and returns the content of the answer; `None` if it is not LDAP.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> std::io::Result<Option<Vec<u8>>> {
    stream.write_all(REQUEST).await?;
    let mut head = Vec::with_capacity(6);
    let header = loop {
        head.push(stream.read_u8().await?);
        match Header::read(&head) {
            Ok(None) => {}
            Ok(Some(header)) if header.tag == SEQUENCE && header.length <= MAX_ANSWER => {
                break header;
            }
            _ => return Ok(None),
        }
    };
    let mut answer = vec![0; header.length];
    stream.read_exact(&mut answer).await?;
    Ok(Some(answer))
}

fn not_ldap() -> anyhow::Error {
    misconfigured("StartTLS was answered by something that is not LDAP")
}

/// Accepts only an ExtendedResponse to message 1 with the result code "success".
fn check(answer: &[u8]) -> Result<()> {
    let mut message = Elements(answer);
    let id = message.next(INTEGER).ok_or_else(not_ldap)?;
    let mut response = Elements(message.next(tag::EXTENDED_RESPONSE).ok_or_else(not_ldap)?);
    let code = response.next(ENUMERATED).ok_or_else(not_ldap)?;
    let text = response.next(OCTET_STRING).and_then(|_| response.next(OCTET_STRING));
    ensure!(id == [1], not_ldap());
    match *code {
        [0] => Ok(()),
        [code] => Err(misconfigured(format_args!(
            "StartTLS refused: {}{}",
            code_name(u32::from(code)),
            server_text(&String::from_utf8_lossy(text.unwrap_or_default()))
        ))),
        _ => Err(not_ldap()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of a negotiation in which the server sends `answer`.
    fn negotiated(answer: &[u8]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut server) = tokio::io::duplex(64 * 1024);
            server.write_all(answer).await.unwrap();
            server.shutdown().await.unwrap();
            negotiate(&mut client).await
        })
    }

    #[test]
    fn only_success_for_message_1_is_accepted() {
        assert!(negotiated(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00").is_ok());
        let refused = b"\x30\x0f\x02\x01\x01\x78\x0a\x0a\x01\x02\x04\x00\x04\x03no\n";
        let error = negotiated(refused).unwrap_err();
        assert_eq!(error.to_string(), r"StartTLS refused: protocolError (no\n)");
        assert_eq!(diagnostics::exit::code_of(&error), 2);
        let other_message = b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
        assert!(negotiated(other_message).is_err());
    }

    #[test]
    fn malformed_and_huge_answers_are_errors() {
        for answer in [
            &b""[..],
            b"\x30",
            b"\x30\x00",
            b"HTTP/1.1 400 Bad Request",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x30\x05\x02\x01\x01\x78\x07",
            b"\x30\x0c\x02\x01\x01\x78\x82\x0a\x01\x00\x04\x00\x04\x00",
            b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x02\x00\x00\x04\x00\x04",
        ] {
            assert!(negotiated(answer).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn nothing_after_the_answer_is_read() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut server) = tokio::io::duplex(1024);
            let answer = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00injected";
            server.write_all(answer).await.unwrap();
            negotiate(&mut client).await.unwrap();
            let mut rest = [0; 8];
            client.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"injected");
        });
    }
}
