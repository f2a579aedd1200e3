//! CAs, leaf certificates, kubeconfigs and their renewal plan.
