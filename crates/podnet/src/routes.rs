//! The routes to other nodes' pods, by netlink. Ours carry a protocol number of their own: whatever has it and is not
//! wanted is stale.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::Notify;

/// `proto 99` in `ip route`: not among those that rtnetlink.h or FRR name.
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(99);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netlink socket")]
    Connect(#[source] std::io::Error),
    #[error("cannot list routes")]
    List(#[source] rtnetlink::Error),
    #[error("cannot add the route to {destination} via {gateway}")]
    Add {
        destination: IpNet,
        gateway: IpAddr,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("cannot delete the route to {destination}")]
    Delete {
        destination: IpNet,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("cannot delete the link {name}")]
    DeleteLink {
        name: String,
        #[source]
        source: rtnetlink::Error,
    },
}

/// Routes by destination.
pub type Routes = BTreeMap<IpNet, IpAddr>;

/// A netlink connection that also tells when one of our routes vanishes, as when its link goes down.
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// `lost` is notified when a route of ours is deleted, by whomever.
    pub fn connect(lost: std::sync::Arc<Notify>) -> Result<Self, Error> {
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (connection, handle, mut messages) = new_multicast_connection(&groups).map_err(Error::Connect)?;
        tokio::spawn(connection);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) = message.payload
                    && route.header.protocol == PROTOCOL
                {
                    lost.notify_one();
                }
            }
        });
        Ok(Self { handle })
    }

    /// Our routes in the kernel.
    pub async fn list(&self) -> Result<Routes, Error> {
        let mut routes = Routes::new();
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        for query in [v4, v6] {
            let mut found = self.handle.route().get(query).execute();
            while let Some(message) = found.try_next().await.map_err(Error::List)? {
                routes.extend(ours(&message));
            }
        }
        Ok(routes)
    }

    /// Makes our routes exactly `wanted`. One that cannot be added (its node is on another network, say) does not keep
    /// the others from it; the first failure is returned.
    pub async fn sync(&self, wanted: &Routes) -> Result<(), Error> {
        let present = self.list().await?;
        let mut result = Ok(());
        for (destination, gateway) in present.iter().filter(|(destination, _)| !wanted.contains_key(destination)) {
            result = result.and(self.delete(*destination, *gateway).await);
        }
        for (destination, gateway) in wanted.iter().filter(|(to, via)| present.get(to) != Some(via)) {
            result = result.and(self.add(*destination, *gateway).await);
        }
        result
    }

    async fn add(&self, destination: IpNet, gateway: IpAddr) -> Result<(), Error> {
        let request = self.handle.route().add(message(destination, gateway)).replace();
        request.execute().await.map_err(|source| Error::Add { destination, gateway, source })?;
        tracing::info!(%destination, %gateway, "added the route to a node's pods");
        Ok(())
    }

    async fn delete(&self, destination: IpNet, gateway: IpAddr) -> Result<(), Error> {
        let request = self.handle.route().del(message(destination, gateway));
        request.execute().await.map_err(|source| Error::Delete { destination, source })?;
        tracing::info!(%destination, %gateway, "deleted the route to a node's pods");
        Ok(())
    }

    /// Deletes a link, if there is one of that name.
    pub async fn delete_link(&self, name: &str) -> Result<(), Error> {
        let failed = |source| Error::DeleteLink { name: name.to_owned(), source };
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(Some(link)) => self.handle.link().del(link.header.index).execute().await.map_err(failed),
            // No such device.
            Ok(None) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => Ok(()),
            Err(source) => Err(failed(source)),
        }
    }
}

fn message(destination: IpNet, gateway: IpAddr) -> RouteMessage {
    // The builder fails only for a destination and gateway of different families, which the plan never pairs.
    let builder = match (destination, gateway) {
        (IpNet::V4(to), IpAddr::V4(via)) => {
            let builder = RouteMessageBuilder::<std::net::Ipv4Addr>::new();
            return builder.destination_prefix(to.addr(), to.prefix_len()).gateway(via).protocol(PROTOCOL).build();
        }
        _ => RouteMessageBuilder::<std::net::IpAddr>::new(),
    };
    let builder = builder.destination_prefix(destination.addr(), destination.prefix_len());
    let builder = builder.and_then(|builder| builder.gateway(gateway));
    builder.expect("the plan pairs addresses of one family").protocol(PROTOCOL).build()
}

fn ours(message: &RouteMessage) -> Option<(IpNet, IpAddr)> {
    if message.header.protocol != PROTOCOL {
        return None;
    }
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    };
    let (mut destination, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            _ => {}
        }
    }
    Some((IpNet::new(destination?, message.header.destination_prefix_length).ok()?, gateway?))
}
