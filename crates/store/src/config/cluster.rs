//! `--initial-cluster`: who is to be a member, by name and peer URLs.

use anyhow::{Context, Result, ensure};

use super::{parse_url, split};

/// A name may stand several times, once per URL. Without the flag the member is alone.
pub fn initial(name: &str, text: &str, own_urls: &[String]) -> Result<Vec<(String, Vec<String>)>> {
    let mut members: Vec<(String, Vec<String>)> = Vec::new();
    if text.is_empty() {
        members.push((name.to_owned(), own_urls.to_vec()));
        return Ok(members);
    }
    for part in split(text) {
        let (name, url) = part.split_once('=').with_context(|| format!("--initial-cluster: {part} is not name=url"))?;
        parse_url("initial-cluster", url)?;
        let url = url.trim_end_matches('/').to_owned();
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((name.to_owned(), vec![url])),
        }
    }
    let mut urls: Vec<&String> = members.iter().flat_map(|(_, urls)| urls).collect();
    urls.sort();
    let twice = urls.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "--initial-cluster={text} has duplicate url {}", twice.map_or("", |pair| pair[0]));
    let mut own = members.iter().find(|(known, _)| known == name).map(|(_, urls)| urls.clone());
    let own = own.as_mut().with_context(|| {
        format!("couldn't find local name {name:?} in the initial cluster configuration --initial-cluster={text}")
    })?;
    let mut advertised = own_urls.to_vec();
    own.sort();
    advertised.sort();
    ensure!(
        *own == advertised,
        "--initial-cluster has {name}={} but --initial-advertise-peer-urls is {}",
        own.join(","),
        advertised.join(",")
    );
    Ok(members)
}
