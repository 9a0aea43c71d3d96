//! What the images of known servers do, by their names: which programs they lack, and what stops them.

/// Repositories whose images have no shell and no `sleep`: static binaries, or distroless bases. As of November 2026.
const WITHOUT_SHELL: [&str; 14] = [
    "cloudflare/cloudflared",
    "coredns/coredns",
    "descheduler/descheduler",
    "external-dns/external-dns",
    "fluent/fluent-bit",
    "hashicorp/http-echo",
    "kube-state-metrics/kube-state-metrics",
    "metrics-server/metrics-server",
    "oauth2-proxy/oauth2-proxy",
    "open-telemetry/opentelemetry-collector-releases/opentelemetry-collector",
    "otel/opentelemetry-collector",
    "otel/opentelemetry-collector-contrib",
    "traefik/whoami",
    "jetstack/cert-manager-",
];
/// Repositories of servers that accept no connections as soon as the signal of their image stops them: SIGTERM, or `STOPSIGNAL`
/// (SIGQUIT of nginx, SIGWINCH of Apache, SIGUSR1 of HAProxy). They finish at most the requests that they have. As of
/// November 2026.
const CLOSE_WHEN_STOPPED: [&str; 17] = [
    "caddy",
    "envoyproxy/envoy",
    "gke/hello-app",
    "google-samples/hello-app",
    "haproxy",
    "hashicorp/http-echo",
    "httpd",
    "metrics-server/metrics-server",
    "nginx",
    "nginx-unprivileged",
    "nginxdemos/hello",
    "nginxdemos/nginx-hello",
    "oauth2-proxy/oauth2-proxy",
    "tomcat",
    "traefik",
    "traefik/whoami",
    "wordpress",
];
/// Programs of a shell and its usual tools.
const TOOLS: [&str; 17] = [
    "ash", "bash", "cat", "curl", "dash", "echo", "kill", "killall", "nc", "pkill", "rm", "sh", "sleep",
    "test", "touch", "wget", "zsh",
];

/// The family of an image, by its `sh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Debian and Ubuntu.
    Dash,
    /// Red Hat, SUSE and Amazon.
    Bash,
    /// Alpine.
    Busybox,
}

/// Parts of names that tell the base. As of November 2026.
const BASES: [(Base, &[&str]); 3] = [
    (Base::Busybox, &["alpine", "busybox", "curlimages/", "n8nio/"]),
    (
        Base::Bash,
        &[
            "/ubi",
            "almalinux",
            "amazon",
            "aws-cli",
            "centos",
            "confluentinc/",
            "fedora",
            "longhornio/",
            "minio",
            "redhat",
            "rockylinux",
            "suse",
        ],
    ),
    (
        Base::Dash,
        &["bookworm", "bullseye", "buster", "debian", "focal", "jammy", "noble", "slim", "trixie", "ubuntu"],
    ),
];
/// Official images that are based on Debian unless their tag names another base.
const OF_DEBIAN: [&str; 12] = [
    "golang", "httpd", "nginx", "node", "perl", "php", "postgres", "python", "rabbitmq", "redis", "ruby",
    "rust",
];

/// The family of an image, by its name; `None` if unknown.
pub(crate) fn base(image: &str) -> Option<Base> {
    let image = image.to_ascii_lowercase();
    let named = BASES.iter().find(|(_, names)| names.iter().any(|name| image.contains(name)));
    let official = image.trim_start_matches("docker.io/").trim_start_matches("library/");
    let official = official.split([':', '@']).next().unwrap_or_default();
    named.map(|(base, _)| *base).or_else(|| OF_DEBIAN.contains(&official).then_some(Base::Dash))
}

/// Whether an image, by its name, has neither a shell nor its usual tools. False if unknown.
pub(crate) fn is_without_shell(image: &str) -> bool {
    let image = image.to_ascii_lowercase();
    let (repository, tag) = repository_and_tag(&image);
    if tag.contains("debug") || tag.contains("alpine") || tag.ends_with("-dev") {
        return false;
    }
    let chainguard = repository.starts_with("cgr.dev/chainguard/")
        && !["bash", "busybox", "wolfi-base"].iter().any(|name| repository.ends_with(name));
    let distroless = repository.contains("distroless") || tag.contains("distroless");
    // A name that ends with a hyphen is a family.
    let is_of = |name: &&str| {
        if name.ends_with('-') { repository.contains(*name) } else { is_named(repository, name) }
    };
    chainguard || distroless || WITHOUT_SHELL.iter().any(is_of)
}

/// Whether an image, by its name, has a server that accepts no connections as soon as it is stopped. False if unknown.
pub(crate) fn closes_when_stopped(image: &str) -> bool {
    let image = image.to_ascii_lowercase();
    let (repository, _) = repository_and_tag(&image);
    CLOSE_WHEN_STOPPED.iter().any(|name| is_named(repository, name))
}

/// The repository of an image, with its registry, and its tag, which may be empty.
fn repository_and_tag(image: &str) -> (&str, &str) {
    let reference = image.split('@').next().unwrap_or_default();
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, ""),
    }
}

/// Whether a repository has this name, in any registry.
fn is_named(repository: &str, name: &str) -> bool {
    repository.strip_suffix(name).is_some_and(|registry| registry.is_empty() || registry.ends_with('/'))
}

/// Whether a program is a shell or one of its usual tools.
pub(crate) fn is_tool(program: &str) -> bool {
    let directories = ["", "/bin", "/usr/bin", "/usr/local/bin"];
    let (directory, name) = program.rsplit_once('/').unwrap_or(("", program));
    directories.contains(&directory) && TOOLS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_shell_are_known_by_name() {
        for (image, expected) in [
            ("gcr.io/distroless/static", true),
            ("gcr.io/distroless/static:debug", false),
            ("registry.example/app:1.2-distroless", true),
            ("cgr.dev/chainguard/nginx:latest", true),
            ("cgr.dev/chainguard/nginx:latest-dev", false),
            ("cgr.dev/chainguard/busybox", false),
            ("registry.k8s.io/coredns/coredns:v1.12.0", true),
            ("quay.io/jetstack/cert-manager-webhook:v1.18.0", true),
            ("quay.io/oauth2-proxy/oauth2-proxy:v7.6.0-alpine", false),
            ("localhost:5000/coredns/coredns", true),
            ("nginx", false),
            ("", false),
        ] {
            assert_eq!(is_without_shell(image), expected, "{image}");
        }
    }

    #[test]
    fn servers_that_close_their_port_when_they_are_stopped_are_known_by_name() {
        for (image, expected) in [
            ("nginx", true),
            ("nginx:1.29-alpine", true),
            ("docker.io/library/nginx@sha256:0a", true),
            ("localhost:5000/mirror/nginx", true),
            ("nginxdemos/nginx-hello:plain-text", true),
            ("us-docker.pkg.dev/google-samples/containers/gke/hello-app:1.0", true),
            ("registry.example/my-nginx", false),
            ("registry.example/nginx/controller", false),
            ("gke/whereami", false),
            ("", false),
        ] {
            assert_eq!(closes_when_stopped(image), expected, "{image}");
        }
    }

    #[test]
    fn the_base_of_an_image_is_known_by_name() {
        for (image, expected) in [
            ("python:3.13", Some(Base::Dash)),
            ("docker.io/library/node:22", Some(Base::Dash)),
            ("node:22-alpine", Some(Base::Busybox)),
            ("registry.example/app:1.2-bookworm", Some(Base::Dash)),
            ("registry.access.redhat.com/ubi9/ubi", Some(Base::Bash)),
            ("registry.example/python", None),
            ("", None),
        ] {
            assert_eq!(base(image), expected, "{image}");
        }
    }

    #[test]
    fn the_tools_of_a_shell_are_known() {
        for (program, expected) in
            [("sleep", true), ("/bin/sh", true), ("/opt/app/sleep", false), ("drain", false), ("", false)]
        {
            assert_eq!(is_tool(program), expected, "{program}");
        }
    }
}
