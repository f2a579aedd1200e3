//! NodeResourcesFit: a node must have what the pod requests; by default the emptier node is better.

use serde::Deserialize;
use serde_json::Value;

use super::resource_scoring::{ResourceSpec, Usage, default_resources, usages, validate};
use super::{ArgsError, parse};
use crate::event::Event;
use crate::framework::{Cycle, Filter, MAX_NODE_SCORE, Plugin, PreFilter, Rejection, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, Resources};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Args {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: ScoringStrategy,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ScoringStrategy {
    #[serde(rename = "type")]
    kind: Strategy,
    resources: Vec<ResourceSpec>,
    requested_to_capacity_ratio: Option<Shape>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        let kind = Strategy::LeastAllocated;
        ScoringStrategy { kind, resources: default_resources(), requested_to_capacity_ratio: None }
    }
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
enum Strategy {
    #[default]
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    shape: Vec<ShapePoint>,
}

/// Utilization in percent, score from 0 to 10.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShapePoint {
    utilization: i64,
    score: i64,
}

const MAX_SHAPE_SCORE: i64 = 10;

struct NodeResourcesFit {
    args: Args,
    shape: Vec<ShapePoint>,
}

pub fn build(args: &Value) -> Result<Box<dyn Plugin>, ArgsError> {
    let args: Args = parse(args)?;
    validate(&args.scoring_strategy.resources)?;
    let given = args.scoring_strategy.requested_to_capacity_ratio.as_ref();
    let shape = given.map(|s| s.shape.clone()).unwrap_or_default();
    if args.scoring_strategy.kind == Strategy::RequestedToCapacityRatio {
        validate_shape(&shape)?;
    }
    Ok(Box::new(NodeResourcesFit { args, shape }))
}

fn validate_shape(shape: &[ShapePoint]) -> Result<(), ArgsError> {
    let invalid = |text: &str| Err(ArgsError::Invalid(format!("requestedToCapacityRatio.shape: {text}")));
    if shape.is_empty() {
        return invalid("at least one point must be specified");
    }
    if shape.windows(2).any(|pair| pair[0].utilization >= pair[1].utilization) {
        return invalid("utilization values must be sorted in increasing order");
    }
    let in_range = |p: &ShapePoint| (0..=100).contains(&p.utilization) && (0..=MAX_SHAPE_SCORE).contains(&p.score);
    if !shape.iter().all(in_range) {
        return invalid("utilization must be in the range 0-100, score in the range 0-10");
    }
    Ok(())
}

struct Fit<'a> {
    pod: &'a PodInfo,
    args: &'a Args,
}

struct Fullness<'a> {
    pod: &'a PodInfo,
    plugin: &'a NodeResourcesFit,
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn pre_filter<'a>(&'a self, cycle: Cycle<'a>) -> PreFilter<'a> {
        PreFilter::Check(Box::new(Fit { pod: cycle.pod, args: &self.args }))
    }

    fn pre_score<'a>(&'a self, cycle: Cycle<'a>, _feasible: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Fullness { pod: cycle.pod, plugin: self }))
    }

    fn hint(&self, pod: &PodInfo, event: Event<'_>) -> bool {
        let could_hold = |node: &NodeInfo| {
            let nothing = Resources::default();
            insufficient(pod, &self.args, &node.allocatable, &nothing).is_empty() && node.allowed_pods > 0
        };
        match event {
            Event::AssignedPodDeleted(_) => true,
            Event::AssignedPodUpdated { old, new } => old.requests.exact != new.requests.exact,
            _ => event.node_changed(|n| (&n.allocatable, n.allowed_pods)) && event.node().is_some_and(could_hold),
        }
    }
}

impl Filter for Fit<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let mut reasons = insufficient(self.pod, self.args, &node.allocatable, &node.requested);
        if node.pods.len() as i64 + 1 > node.allowed_pods {
            reasons.insert(0, ("Too many pods".into(), true));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        let resolvable = reasons.iter().all(|(_, resolvable)| *resolvable);
        Err(Rejection { reasons: reasons.into_iter().map(|(reason, _)| reason.into()).collect(), resolvable })
    }
}

/// What there is too little of, and whether evicting pods could free enough of it.
fn insufficient(pod: &PodInfo, args: &Args, allocatable: &Resources, used: &Resources) -> Vec<(String, bool)> {
    let wanted = &pod.requests.exact;
    let native = [CPU, MEMORY, EPHEMERAL_STORAGE].into_iter();
    let extended = wanted.scalars.keys().map(|name| &**name).filter(|name| !ignored(args, name));
    native
        .chain(extended)
        .filter(|name| wanted.get(name) > 0 && wanted.get(name) > allocatable.get(name).saturating_sub(used.get(name)))
        .map(|name| (format!("Insufficient {name}"), wanted.get(name) <= allocatable.get(name)))
        .collect()
}

fn ignored(args: &Args, name: &str) -> bool {
    let group = name.split_once('/').map(|(group, _)| group);
    args.ignored_resources.iter().any(|r| r == name)
        || args.ignored_resource_groups.iter().any(|g| Some(g.as_str()) == group)
}

impl Score for Fullness<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let strategy = &self.plugin.args.scoring_strategy;
        let (mut sum, mut weights) = (0, 0);
        for usage in usages(&strategy.resources, node, &node.assumed, &self.pod.requests.assumed) {
            sum += self.plugin.rate(strategy.kind, &usage) * usage.weight;
            weights += usage.weight;
        }
        match weights {
            0 => 0,
            _ if strategy.kind == Strategy::RequestedToCapacityRatio => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

impl NodeResourcesFit {
    fn rate(&self, strategy: Strategy, usage: &Usage) -> i64 {
        let Usage { requested, allocatable, .. } = *usage;
        let percent = |part: i64| (i128::from(part) * i128::from(MAX_NODE_SCORE) / i128::from(allocatable)) as i64;
        let over = requested > allocatable;
        match strategy {
            Strategy::LeastAllocated => {
                if over {
                    0
                } else {
                    percent(allocatable - requested)
                }
            }
            Strategy::MostAllocated => percent(requested.min(allocatable)),
            Strategy::RequestedToCapacityRatio => interpolate(&self.shape, if over { 100 } else { percent(requested) }),
        }
    }
}

/// The score on the broken line through the points, scaled from 0..10 to 0..100.
fn interpolate(shape: &[ShapePoint], utilization: i64) -> i64 {
    let scale = |score: i64| score * MAX_NODE_SCORE / MAX_SHAPE_SCORE;
    let after = shape.iter().position(|p| utilization <= p.utilization);
    match after {
        None => shape.last().map_or(0, |p| scale(p.score)),
        Some(0) => scale(shape[0].score),
        Some(i) => {
            let (a, b) = (shape[i - 1], shape[i]);
            let (low, high) = (scale(a.score), scale(b.score));
            low + (high - low) * (utilization - a.utilization) / (b.utilization - a.utilization)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{cluster, node, pod, scores, sized, verdicts};
    use crate::{NodeInfo, PodInfo};
    use serde_json::{Value, json};

    fn with(name: &str, allocatable: Value) -> NodeInfo {
        node(name, json!({"status": {"allocatable": allocatable}}))
    }

    fn asking(requests: Value) -> PodInfo {
        pod("p", json!({"spec": {"containers": [{"resources": {"requests": requests}}]}}))
    }

    #[test]
    fn filter() {
        let check = |requests: Value, expected: Option<&str>, resolvable: bool| {
            let allocatable = json!({"cpu": "2", "memory": "1Gi", "pods": "2", "example.com/gpu": "1"});
            let snapshot = cluster([with("n", allocatable)], [("n", sized("a", 1500, 0))]);
            let pod = asking(requests.clone());
            let got = verdicts("NodeResourcesFit", json!(null), &snapshot, &pod);
            assert_eq!(got, [expected.map(String::from)], "{requests}");
            let decision = crate::schedule(&crate::Profile::default(), &snapshot, &pod, 0);
            if let crate::Outcome::Unfit(diagnosis, _) = decision.outcome {
                assert_eq!(diagnosis.nodes[0].rejection.resolvable, resolvable, "{requests}");
            }
        };
        check(json!({}), None, true);
        check(json!({"cpu": "500m"}), None, true);
        check(json!({"cpu": "501m"}), Some("Insufficient cpu"), true);
        check(json!({"cpu": "3"}), Some("Insufficient cpu"), false);
        check(json!({"cpu": "1", "memory": "2Gi"}), Some("Insufficient cpu, Insufficient memory"), false);
        check(json!({"example.com/gpu": "1"}), None, true);
        check(json!({"example.com/gpu": "2"}), Some("Insufficient example.com/gpu"), false);
        check(json!({"example.com/fpga": "1"}), Some("Insufficient example.com/fpga"), false);
    }

    #[test]
    fn a_node_takes_only_so_many_pods() {
        let snapshot = cluster([with("n", json!({"pods": "1"}))], [("n", sized("a", 0, 0))]);
        let got = verdicts("NodeResourcesFit", json!(null), &snapshot, &asking(json!({})));
        assert_eq!(got, [Some("Too many pods".to_owned())]);
    }

    #[test]
    fn ignored_extended_resources() {
        let snapshot = cluster([with("n", json!({"cpu": "1", "pods": "9"}))], []);
        let args = json!({"ignoredResources": ["a.com/x"], "ignoredResourceGroups": ["b.com"]});
        let pod = asking(json!({"a.com/x": "1", "b.com/y": "1", "a.com/z": "1"}));
        let got = verdicts("NodeResourcesFit", args, &snapshot, &pod);
        assert_eq!(got, [Some("Insufficient a.com/z".to_owned())]);
    }

    fn score(strategy: Value, expected: [i64; 2]) {
        let allocatable = json!({"cpu": "4", "memory": "4000Mi", "pods": "9"});
        let nodes = [with("empty", allocatable.clone()), with("half", allocatable)];
        let used =
            pod("u", json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "2", "memory": "1000Mi"}}}]}}));
        let snapshot = cluster(nodes, [("half", used)]);
        let args = json!({"scoringStrategy": strategy});
        let pod = asking(json!({"cpu": "1", "memory": "1000Mi"}));
        assert_eq!(scores("NodeResourcesFit", args, &snapshot, &pod), Some(expected.into()), "{strategy}");
    }

    #[test]
    fn strategies() {
        score(json!({"type": "LeastAllocated"}), [75, 37]);
        score(json!({"type": "MostAllocated"}), [25, 62]);
        score(
            json!({"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 3}, {"name": "memory", "weight": 1}]}),
            [75, 31],
        );
        let shape = json!([{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]);
        score(json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": shape}}), [25, 63]);
    }

    #[test]
    fn bad_arguments_are_refused() {
        let check = |args: Value, expected: &str| {
            let error = crate::plugins::build("NodeResourcesFit", &args).err().expect("an error");
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(json!({"scoringStrategy": {"type": "Random"}}), "unknown variant `Random`");
        check(json!({"scoringStrategy": {"type": "RequestedToCapacityRatio"}}), "at least one point");
        check(json!({"scoringStrategy": {"resources": [{"name": "cpu", "weight": 0}]}}), "weight 0");
        check(json!({"ignored": []}), "unknown field `ignored`");
    }
}
