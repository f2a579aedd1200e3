//! The cases, in the order in which they run. The last ones kill daemons and take the cluster down.

mod accounts;
mod bad_input;
mod deployments;
mod down;
mod namespaces;
mod nodes;
mod output;
mod pods;
mod services;
mod streams;
mod survival;
mod workloads;

use crate::harness::Case;

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        pub const ALL: &[Case] = &[$(Case { name: concat!(stringify!($module), "::", stringify!($name)), run: $module::$name }),*];
    };
}

cases![
    services::replicas_answer_through_their_service,
    services::the_nat_table_has_the_chains_people_know,
    services::node_ports_and_session_affinity,
    services::endpoints_made_by_hand_are_reached,
    services::headless_services_resolve_to_their_pods,
    services::ranges_are_added_and_taken_away,
    namespaces::the_same_pod_in_three_namespaces,
    namespaces::a_context_with_a_default_namespace,
    pods::two_containers_share_an_empty_dir,
    pods::a_host_path_is_read_through_a_port_forward,
    pods::configuration_reaches_the_container,
    pods::configuration_changed_during_a_start_arrives,
    pods::init_containers_run_first_and_in_order,
    pods::a_crashing_container_backs_off,
    pods::probes_decide_readiness_and_restarts,
    pods::static_pods_are_mirrored,
    pods::a_runtime_class_names_a_handler,
    pods::a_node_refuses_what_it_cannot_run,
    pods::an_image_that_cannot_be_had_is_said_so,
    streams::logs_follow,
    streams::exec_has_stdin_a_terminal_and_an_exit_code,
    streams::attach_and_copy,
    streams::get_watches,
    output::every_form_of_output,
    output::explain_api_resources_and_events,
    output::apply_twice_label_and_annotate,
    deployments::scale_image_rollout_and_undo,
    deployments::run_and_expose,
    workloads::stateful_sets_are_ordered,
    workloads::daemon_sets_cover_the_nodes,
    workloads::jobs_complete_and_cron_jobs_start_them,
    workloads::pods_left_behind_by_their_job_can_go,
    workloads::owners_take_their_dependents_along,
    nodes::nodes_report_what_they_are,
    nodes::cordon_drain_and_uncordon,
    accounts::a_secret_is_given_its_accounts_token_and_goes_with_it,
    bad_input::refusals_have_upstreams_words,
    bad_input::the_api_server_answers_with_upstreams_status,
    bad_input::access_is_denied_in_upstreams_words,
    survival::a_deployment_serves_while_daemons_are_killed,
    survival::containers_outlive_their_kubelet,
    survival::containers_outlive_their_runtime,
    survival::a_status_written_over_is_put_right,
    survival::daemons_stop_when_asked_and_hand_over_their_leases,
    down::a_second_up_finds_the_cluster,
    down::a_daemon_that_cannot_start_is_named,
    down::a_stopped_cluster_keeps_its_addresses,
    down::nothing_is_left_behind_and_nothing_is_lost,
];

/// A Deployment of the test server, with probes so quick that a rollout takes no time.
fn web(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: coxswain/web:v1
        ports:
        - containerPort: 8080
        readinessProbe:
          periodSeconds: 1
          httpGet:
            path: /healthz
            port: 8080
"
    )
}

/// A pod that sleeps, to run commands in.
fn client(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels:
    app: {name}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: shell
    image: busybox:1.36
    command: [sleep, infinity]
"
    )
}
