"""What `hubclient.publishing` looks at before it shows a module to others."""
