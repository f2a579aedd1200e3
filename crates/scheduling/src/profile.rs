//! Which plugins run at which point, with which weight: one scheduler name's behaviour.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::event::Event;
use crate::framework::{Plugin, Rejection};
use crate::plugins::{self, TABLE};
use crate::pod::{DEFAULT_SCHEDULER_NAME, PodInfo};

/// An extension point that a configuration can switch plugins on and off at. `PreFilter` follows `Filter` and
/// `PreScore` follows `Score`: here they are two halves of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    PreEnqueue,
    Filter,
    PostFilter,
    Score,
}

impl Point {
    pub const ALL: [Point; 4] = [Point::PreEnqueue, Point::Filter, Point::PostFilter, Point::Score];
}

/// A change to the default set. A name of `*` in `disabled` clears the point.
#[derive(Clone, Debug, Default)]
pub struct PluginSet {
    pub enabled: Vec<(String, Option<i64>)>,
    pub disabled: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct ProfileConfig {
    pub scheduler_name: Option<String>,
    pub percentage_of_nodes_to_score: Option<u8>,
    pub multi_point: PluginSet,
    pub points: BTreeMap<Point, PluginSet>,
    /// `pluginConfig[].args` by plugin name.
    pub args: BTreeMap<String, Value>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("profile {profile:?}: plugin {plugin:?} does not exist")]
    UnknownPlugin { profile: String, plugin: String },
    #[error("profile {profile:?}: pluginConfig of {plugin}")]
    Args { profile: String, plugin: String, source: plugins::ArgsError },
}

pub struct Profile {
    pub scheduler_name: Box<str>,
    pub percentage_of_nodes_to_score: Option<u8>,
    plugins: Vec<Box<dyn Plugin>>,
    pre_enqueue: Vec<usize>,
    filter: Vec<usize>,
    post_filter: Vec<usize>,
    score: Vec<(usize, i64)>,
}

impl Profile {
    pub fn new(config: &ProfileConfig) -> Result<Self, ProfileError> {
        let name = config.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER_NAME);
        let mut profile = Profile {
            scheduler_name: name.into(),
            percentage_of_nodes_to_score: config.percentage_of_nodes_to_score,
            plugins: Vec::new(),
            pre_enqueue: Vec::new(),
            filter: Vec::new(),
            post_filter: Vec::new(),
            score: Vec::new(),
        };
        if let Some(plugin) = config.args.keys().find(|plugin| !plugins::is_known(plugin)) {
            return Err(ProfileError::UnknownPlugin { profile: name.into(), plugin: plugin.clone() });
        }
        let mut built = BTreeMap::new();
        for point in Point::ALL {
            for (plugin, weight) in
                chosen(config, point).map_err(|plugin| ProfileError::UnknownPlugin { profile: name.into(), plugin })?
            {
                let at = match built.get(plugin) {
                    Some(at) => *at,
                    None => profile.build(name, plugin, config)?,
                };
                built.insert(plugin, at);
                profile.place(point, at, weight);
            }
        }
        Ok(profile)
    }

    fn build(&mut self, name: &str, plugin: &'static str, config: &ProfileConfig) -> Result<usize, ProfileError> {
        let args = config.args.get(plugin).unwrap_or(&Value::Null);
        let built = plugins::build(plugin, args);
        let failed = |source| ProfileError::Args { profile: name.into(), plugin: plugin.into(), source };
        self.plugins.push(built.map_err(failed)?);
        Ok(self.plugins.len() - 1)
    }

    fn place(&mut self, point: Point, at: usize, weight: i64) {
        match point {
            Point::PreEnqueue => self.pre_enqueue.push(at),
            Point::Filter => self.filter.push(at),
            Point::PostFilter => self.post_filter.push(at),
            Point::Score => self.score.push((at, weight)),
        }
    }

    pub fn filters(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.filter.iter().map(|i| &*self.plugins[*i])
    }

    pub fn post_filters(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.post_filter.iter().map(|i| &*self.plugins[*i])
    }

    pub fn scores(&self) -> impl Iterator<Item = (&dyn Plugin, i64)> {
        self.score.iter().map(|(i, weight)| (&*self.plugins[*i], *weight))
    }

    /// The first gate that holds the pod back.
    pub fn gate(&self, pod: &PodInfo) -> Option<(&'static str, Rejection)> {
        let gates = self.pre_enqueue.iter().map(|i| &self.plugins[*i]);
        gates.into_iter().find_map(|plugin| Some((plugin.name(), plugin.pre_enqueue(pod).err()?)))
    }

    /// Whether `event` gives a pod that `plugins` turned down a new chance.
    pub fn hint(&self, plugins: impl IntoIterator<Item = &'static str>, pod: &PodInfo, event: Event<'_>) -> bool {
        plugins.into_iter().any(|name| self.plugins.iter().any(|p| p.name() == name && p.hint(pod, event)))
    }
}

impl Default for Profile {
    fn default() -> Self {
        Profile::new(&ProfileConfig::default()).expect("the default plugins have valid defaults")
    }
}

/// The plugins of one point, in the table's order, then the ones a configuration added.
fn chosen(config: &ProfileConfig, point: Point) -> Result<Vec<(&'static str, i64)>, String> {
    let specific = config.points.get(&point);
    let disabled = |name: &str, set: &PluginSet| set.disabled.iter().any(|d| d == name || d == "*");
    let mut chosen: Vec<(&'static str, i64)> = Vec::new();
    for row in TABLE.iter().filter(|row| row.points.contains(&point)) {
        if !disabled(row.name, &config.multi_point) && !specific.is_some_and(|set| disabled(row.name, set)) {
            chosen.push((row.name, row.weight));
        }
    }
    for (name, weight) in config.multi_point.enabled.iter().chain(specific.iter().flat_map(|set| &set.enabled)) {
        let Some(row) = TABLE.iter().find(|row| row.name == name) else {
            if plugins::is_known(name) {
                continue;
            }
            return Err(name.clone());
        };
        if row.points.contains(&point) {
            chosen.retain(|(name, _)| *name != row.name);
            chosen.push((row.name, weight.filter(|w| *w > 0).unwrap_or(row.weight)));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(config: &ProfileConfig) -> Vec<&'static str> {
        Profile::new(config).expect("a valid profile").filters().map(|p| p.name()).collect()
    }

    #[test]
    fn defaults_have_upstreams_weights() {
        let profile = Profile::default();
        let mut weights: Vec<_> = profile.scores().map(|(p, w)| (p.name(), w)).collect();
        weights.sort();
        assert_eq!(
            weights,
            [
                ("ImageLocality", 1),
                ("InterPodAffinity", 2),
                ("NodeAffinity", 2),
                ("NodeResourcesBalancedAllocation", 1),
                ("NodeResourcesFit", 1),
                ("PodTopologySpread", 2),
                ("TaintToleration", 3),
            ]
        );
    }

    #[test]
    fn plugins_can_be_switched() {
        let mut config = ProfileConfig::default();
        config.multi_point.disabled = vec!["NodePorts".into()];
        assert!(!filters(&config).contains(&"NodePorts"));
        assert!(filters(&config).contains(&"NodeName"));
        let only = PluginSet { disabled: vec!["*".into()], enabled: vec![("NodeName".into(), None)] };
        config.points.insert(Point::Filter, only);
        assert_eq!(filters(&config), ["NodeName"]);
        let weighted = PluginSet { enabled: vec![("ImageLocality".into(), Some(9))], ..PluginSet::default() };
        config.points.insert(Point::Score, weighted);
        let profile = Profile::new(&config).expect("a valid profile");
        assert!(profile.scores().any(|(p, w)| p.name() == "ImageLocality" && w == 9));
    }

    #[test]
    fn unknown_plugins_are_refused() {
        let mut config = ProfileConfig::default();
        config.multi_point.enabled = vec![("Astrology".into(), None)];
        let error = Profile::new(&config).err().expect("an error").to_string();
        assert_eq!(error, r#"profile "default-scheduler": plugin "Astrology" does not exist"#);
    }
}
