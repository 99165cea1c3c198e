//! The cluster: where its API server is, and by which credentials it is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, io_failure, one_line};
use kube::client::AuthError;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use outbound::secret::Secret;

use super::name::check_namespace;

/// How long a connection may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Which cluster.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// The one that this pod is in, by its service account.
    Own,
    /// That of a kubeconfig's current context.
    Kubeconfig(PathBuf),
}

impl Cluster {
    /// A client with the credentials of this moment, and the namespace that is meant when none is
    /// named.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub async fn client(&self) -> Result<(Client, String)> {
        let mut config = match self {
            Cluster::Own => Config::incluster_env().map_err(|error| own(&error))?,
            Cluster::Kubeconfig(file) => kubeconfig(file)
                .await
                .with_context(|| {
                    let name = one_line(file.as_os_str().as_encoded_bytes());
                    format!("failed to use the kubeconfig `{name}`")
                })
                .map_err(|error| misconfigured(format_args!("{error:#}")))?,
        };
        // Read here, since kube would send the end of its line too.
        if let (None, Some(file)) = (&config.auth_info.token, config.auth_info.token_file.take()) {
            let token = Secret::read(Path::new(&file))?;
            config.auth_info.token = Some(token.reveal().to_owned().into());
        }
        config.connect_timeout = Some(TIMEOUT);
        // Trying again is the caller's affair, who says so.
        config.default_retry = false;
        let namespace = check_namespace(config.default_namespace.trim())?;
        let client = Client::try_from(config).map_err(|error| match &error {
            kube::Error::Auth(error) => credentials(error),
            other => anyhow!("failed to get ready for the API server: {}", one(other)),
        })?;
        Ok((client, namespace))
    }
}

async fn kubeconfig(file: &Path) -> Result<Config> {
    let fail = |error: KubeconfigError| match error {
        // Its message shows the lines around, which hold keys.
        KubeconfigError::Parse(_) => anyhow!("it is not YAML of that form"),
        other => anyhow!(one(&other)),
    };
    let read = Kubeconfig::read_from(file).map_err(fail)?;
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(fail)
}

/// Why there is no service account to use.
fn own(error: &InClusterError) -> anyhow::Error {
    match error {
        InClusterError::ReadEnvironmentVariable(_) => misconfigured(
            "this is not a pod (KUBERNETES_SERVICE_HOST is not set): name a kubeconfig",
        ),
        InClusterError::ReadDefaultNamespace(error)
        | InClusterError::ReadCertificateBundle(error) => anyhow!(
            "failed to read the service account's files: {} (is automountServiceAccountToken \
             false?)",
            io_error(error)
        ),
        other => anyhow!(one(other)),
    }
}

/// Why there are no credentials, without them: what a plugin prints is a token.
pub fn credentials(error: &AuthError) -> anyhow::Error {
    match error {
        AuthError::ReadTokenFile(error, file) => io_failure("read", file, error),
        AuthError::AuthExecStart(error) => {
            anyhow!("failed to run the kubeconfig's credential plugin: {}", io_error(error))
        }
        AuthError::AuthExecRun { out, .. } => {
            anyhow!("the kubeconfig's credential plugin failed: {}", out.status)
        }
        _ => anyhow!("the credentials for the API server are not usable"),
    }
}

fn one(error: &dyn std::error::Error) -> String {
    one_line(error.to_string().as_bytes())
}
