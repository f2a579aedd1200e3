//! Requests of the checker's in the words of the `etcd-client` crate, and its answers in the checker's.

use ::history::{
    Answer, At, Compare, Delete, Event, KeyValue, Keys, Message, Put, Range, RangeAnswer, Relation, Request, Response,
    Target, Txn, TxnOp,
};
use etcd_client as etcd;
use etcd_client::{Client, Error};

fn revision(header: Option<&etcd::ResponseHeader>) -> i64 {
    header.expect("always").revision()
}

pub(crate) async fn execute(client: &mut Client, request: &Request) -> Result<(i64, Answer), Error> {
    match request {
        Request::Range(range, at) => {
            let response = client.get(start(&range.keys), Some(range_options(range, *at))).await?;
            Ok((revision(response.header()), range_answer(&response)))
        }
        Request::Put(put) => {
            let response = client.put(put.key.to_vec(), put.value.to_vec(), Some(put_options(put))).await?;
            Ok((revision(response.header()), put_answer(&response)))
        }
        Request::Delete(delete) => {
            let response = client.delete(start(&delete.keys), Some(delete_options(delete))).await?;
            Ok((revision(response.header()), delete_answer(&response)))
        }
        Request::Txn(txn) => {
            let response = client.txn(wire_txn(txn)).await?;
            let answers = response.op_responses().iter().map(op_answer).collect();
            Ok((revision(response.header()), Answer::Txn { succeeded: response.succeeded(), answers }))
        }
        Request::Compact { revision: at } => {
            let response = client.compact(*at, None).await?;
            Ok((revision(response.header()), Answer::Done))
        }
        Request::LeaseGrant { id, ttl_seconds } => {
            let options = etcd::LeaseGrantOptions::new().with_id(*id);
            let response = client.lease_grant(*ttl_seconds, Some(options)).await?;
            Ok((revision(response.header()), Answer::Done))
        }
        Request::LeaseRevoke { id } => {
            let response = client.lease_revoke(*id).await?;
            Ok((revision(response.header()), Answer::Done))
        }
        Request::LeaseKeepAlive { id } => keep_alive(client, *id).await,
    }
}

/// The client swallows the first answer of a stream, so a second one is asked for.
async fn keep_alive(client: &mut Client, id: i64) -> Result<(i64, Answer), Error> {
    let (mut keeper, mut renewals) = client.lease_keep_alive(id).await?;
    keeper.keep_alive().await?;
    let Some(renewed) = renewals.message().await? else {
        return Err(Error::LeaseKeepAliveError("the stream ended".to_owned()));
    };
    Ok((revision(renewed.header()), Answer::KeepAlive { ttl_seconds: renewed.ttl() }))
}

pub(crate) fn start(keys: &Keys) -> Vec<u8> {
    match keys {
        Keys::One(key) | Keys::Prefix(key) => key.to_vec(),
    }
}

fn range_options(range: &Range, at: At) -> etcd::GetOptions {
    let options = etcd::GetOptions::new().with_limit(i64::try_from(range.limit).expect("a small limit"));
    let options = match &range.keys {
        Keys::One(_) => options,
        Keys::Prefix(prefix) if prefix.is_empty() => options.with_all_keys(),
        Keys::Prefix(_) => options.with_prefix(),
    };
    match at {
        At::Latest => options,
        At::Serializable => options.with_serializable(),
        At::Revision(at) => options.with_revision(at),
    }
}

fn put_options(put: &Put) -> etcd::PutOptions {
    let options = etcd::PutOptions::new().with_lease(put.lease);
    if put.prev_kv { options.with_prev_key() } else { options }
}

fn delete_options(delete: &Delete) -> etcd::DeleteOptions {
    let options = match &delete.keys {
        Keys::One(_) => etcd::DeleteOptions::new(),
        Keys::Prefix(prefix) if prefix.is_empty() => etcd::DeleteOptions::new().with_all_keys(),
        Keys::Prefix(_) => etcd::DeleteOptions::new().with_prefix(),
    };
    if delete.prev_kv { options.with_prev_key() } else { options }
}

fn wire_txn(txn: &Txn) -> etcd::Txn {
    let ops = |ops: &[TxnOp]| ops.iter().map(wire_op).collect::<Vec<_>>();
    let compares: Vec<etcd::Compare> = txn.compare.iter().map(wire_compare).collect();
    etcd::Txn::new().when(compares).and_then(ops(&txn.success)).or_else(ops(&txn.failure))
}

fn wire_compare(compare: &Compare) -> etcd::Compare {
    let relation = match compare.relation {
        Relation::Equal => etcd::CompareOp::Equal,
        Relation::NotEqual => etcd::CompareOp::NotEqual,
        Relation::Greater => etcd::CompareOp::Greater,
        Relation::Less => etcd::CompareOp::Less,
    };
    let key = compare.key.to_vec();
    match &compare.target {
        Target::Version(version) => etcd::Compare::version(key, relation, *version),
        Target::Create(revision) => etcd::Compare::create_revision(key, relation, *revision),
        Target::Mod(revision) => etcd::Compare::mod_revision(key, relation, *revision),
        Target::Lease(lease) => etcd::Compare::lease(key, relation, *lease),
        Target::Value(value) => etcd::Compare::value(key, relation, value.to_vec()),
    }
}

fn wire_op(op: &TxnOp) -> etcd::TxnOp {
    match op {
        TxnOp::Range(range) => etcd::TxnOp::get(start(&range.keys), Some(range_options(range, At::Latest))),
        TxnOp::Put(put) => etcd::TxnOp::put(put.key.to_vec(), put.value.to_vec(), Some(put_options(put))),
        TxnOp::Delete(delete) => etcd::TxnOp::delete(start(&delete.keys), Some(delete_options(delete))),
    }
}

fn op_answer(response: &etcd::TxnOpResponse) -> Answer {
    match response {
        etcd::TxnOpResponse::Get(response) => range_answer(response),
        etcd::TxnOpResponse::Put(response) => put_answer(response),
        etcd::TxnOpResponse::Delete(response) => delete_answer(response),
        etcd::TxnOpResponse::Txn(_) => unreachable!("none were nested"),
    }
}

fn range_answer(response: &etcd::GetResponse) -> Answer {
    let count = usize::try_from(response.count()).expect("a count");
    Answer::Range(RangeAnswer { kvs: response.kvs().iter().map(key_value).collect(), count, more: response.more() })
}

fn put_answer(response: &etcd::PutResponse) -> Answer {
    Answer::Put { prev_kv: response.prev_key().map(key_value) }
}

fn delete_answer(response: &etcd::DeleteResponse) -> Answer {
    let deleted = usize::try_from(response.deleted()).expect("a count");
    Answer::Delete { deleted, prev_kvs: response.prev_kvs().iter().map(key_value).collect() }
}

fn key_value(kv: &etcd::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key().to_vec().into(),
        value: kv.value().to_vec().into(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        lease: kv.lease(),
    }
}

/// A response to the only watch of a stream.
pub fn watch_response(at: u64, response: &etcd::WatchResponse) -> Response {
    let event = |e: &etcd::Event| Event { kv: key_value(e.kv().expect("always")), prev_kv: e.prev_kv().map(key_value) };
    let message = if response.canceled() {
        Message::Canceled { compact_revision: response.compact_revision() }
    } else if response.created() {
        Message::Created
    } else if response.events().is_empty() {
        Message::Progress
    } else {
        Message::Events { events: response.events().iter().map(event).collect(), fragment: false }
    };
    Response { at, revision: revision(response.header()), message }
}
