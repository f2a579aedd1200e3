use super::*;

/// A session whose first words to the server are said.
fn session() -> Session {
    let mut session = Session::new("http");
    assert!(session.out.starts_with(PREFACE));
    session.out.clear();
    session
}

fn wire(kind: u8, flags: u8, id: u32, payload: &[u8]) -> BytesMut {
    let mut wire = BytesMut::new();
    frame(&mut wire, payload.len(), kind, flags, id);
    wire.extend_from_slice(payload);
    wire
}

/// The frames in what is to be written: kind, flags, stream, payload.
fn frames(out: &mut BytesMut) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while !out.is_empty() {
        let header = out.split_to(FRAME_HEADER);
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        frames.push((header[3], header[4], id, out.split_to(length).to_vec()));
    }
    frames
}

fn receive(session: &mut Session, mut bytes: BytesMut) -> Result<(), Broken> {
    session.receive(&mut bytes, &mut Vec::new())
}

/// Of data frames: how many bytes, and whether they end the stream.
fn sent(session: &mut Session) -> Vec<(usize, bool)> {
    let frames = frames(&mut session.out).into_iter().filter(|(kind, ..)| *kind == kind::DATA);
    frames.map(|(_, flags, _, payload)| (payload.len(), flags & END_STREAM != 0)).collect()
}

#[test]
fn headers_are_said_once_and_then_by_their_numbers() {
    let mut session = session();
    let said = |newer: u8| 0x80 | (62 + newer);
    let mut block = |path| {
        session.open(path);
        let (kind, flags, _, block) = frames(&mut session.out).remove(0);
        assert_eq!((kind, flags), (kind::HEADERS, END_HEADERS));
        block
    };
    let first = block("/a");
    assert_eq!(&first[..6], [0x83, 0x86, 0x44, 2, b'/', b'a']);
    assert!(first.ends_with(b"trailers"));
    // Four were added; the path was the first of them.
    assert_eq!(block("/a"), [0x83, 0x86, said(3), said(2), said(1), said(0)]);
    assert_eq!(block("/b"), [0x83, 0x86, 0x44, 2, b'/', b'b', said(3), said(2), said(1)]);
    assert_eq!(block("/b"), [0x83, 0x86, said(0), said(3), said(2), said(1)]);
    assert_eq!(block("/a"), [0x83, 0x86, said(4), said(3), said(2), said(1)]);
}

#[test]
fn no_more_is_sent_than_the_server_takes() {
    let mut session = session();
    let id = session.open("/a");
    session.send(id, &[7; 70_000], true);
    let window = usize::try_from(DEFAULT_WINDOW).expect("positive");
    assert_eq!(sent(&mut session).iter().map(|(length, _)| length).sum::<usize>(), window);
    let more = 100_000_u32.to_be_bytes();
    receive(&mut session, wire(kind::WINDOW_UPDATE, 0, 0, &more)).expect("sound");
    assert_eq!(sent(&mut session), [], "the stream's own window is still closed");
    receive(&mut session, wire(kind::WINDOW_UPDATE, 0, id, &more)).expect("sound");
    assert_eq!(sent(&mut session), [(70_000 - window, true)]);
}

#[test]
fn a_larger_window_of_new_streams_opens_those_under_way() {
    let mut session = session();
    receive(&mut session, wire(kind::WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes())).expect("sound");
    let id = session.open("/a");
    session.send(id, &[7; 70_000], false);
    sent(&mut session);
    let mut settings = BytesMut::new();
    settings.put_u16(INITIAL_WINDOW_SIZE);
    settings.put_u32(80_000);
    receive(&mut session, wire(kind::SETTINGS, 0, 0, &settings)).expect("sound");
    let out = frames(&mut session.out);
    assert_eq!((out[0].0, out[0].1), (kind::SETTINGS, ACK));
    assert_eq!((out[1].0, out[1].3.len()), (kind::DATA, 70_000 - 65_535));
}

#[test]
fn an_answer_comes_in_pieces() {
    let mut session = session();
    let id = session.open("/a");
    session.send(id, b"question", true);
    let mut bytes = BytesMut::new();
    bytes.unsplit(wire(kind::HEADERS, END_HEADERS, id, &[0x88]));
    bytes.unsplit(wire(kind::DATA, 0, id, b"ans"));
    bytes.unsplit(wire(kind::DATA, PADDED, id, &[2, b'w', b'e', b'r', 0, 0]));
    bytes.unsplit(wire(kind::HEADERS, END_HEADERS | END_STREAM, id, &[]));
    let mut read = BytesMut::new();
    for byte in bytes {
        assert!(matches!(session.call(id), Some((_, false, None))));
        read.put_u8(byte);
        session.receive(&mut read, &mut Vec::new()).expect("sound");
    }
    let (buffer, ended, reset) = session.call(id).expect("open");
    assert_eq!((&buffer[..], ended, reset), (&b"answer"[..], true, None));
}

#[test]
fn who_waits_is_woken_when_there_is_something_to_see() {
    let check = |end: bool, frame: (u8, u8), expected: bool| {
        let mut session = session();
        let id = session.open("/a");
        session.send(id, b"question", end);
        session.await_more(id, Waker::noop());
        let mut woken = Vec::new();
        session.receive(&mut wire(frame.0, frame.1, id, &[0; 4]), &mut woken).expect("sound");
        assert_eq!(!woken.is_empty(), expected, "{end} {frame:?}");
    };
    check(false, (kind::DATA, 0), true);
    check(true, (kind::DATA, 0), false);
    check(true, (kind::DATA, END_STREAM), true);
    check(true, (kind::HEADERS, END_HEADERS | END_STREAM), true);
    check(false, (kind::HEADERS, END_HEADERS), false);
    check(false, (kind::RST_STREAM, 0), true);
}

#[test]
fn what_servers_ask_is_answered_and_what_ends_a_connection_is_told() {
    let mut session = session();
    receive(&mut session, wire(kind::PING, 0, 0, b"8 octets")).expect("sound");
    receive(&mut session, wire(kind::PING, ACK, 0, b"8 octets")).expect("sound");
    assert_eq!(frames(&mut session.out), [(kind::PING, ACK, 0, b"8 octets".to_vec())]);
    let goaway = [0, 0, 0, 1, 0, 0, 0, 11];
    assert_eq!(receive(&mut session, wire(kind::GOAWAY, 0, 0, &goaway)), Err(Broken::GoAway(11)));
    assert!(matches!(receive(&mut session, wire(kind::WINDOW_UPDATE, 0, 0, &[0])), Err(Broken::Malformed(_))));
    assert!(matches!(receive(&mut session, wire(kind::DATA, PADDED, 1, &[9])), Err(Broken::Malformed(_))));
}

#[test]
fn a_call_that_is_let_go_is_cancelled() {
    let mut session = session();
    let id = session.open("/a");
    session.out.clear();
    session.close(id);
    assert_eq!(frames(&mut session.out), [(kind::RST_STREAM, 0, id, vec![0, 0, 0, 8])]);
    assert!(session.call(id).is_none());
}

#[test]
fn an_answer_is_whole_whatever_the_server_says_after_it() {
    for (answered, reset) in [(true, None), (false, Some(0))] {
        let mut session = session();
        let id = session.open("/a");
        if answered {
            receive(&mut session, wire(kind::HEADERS, END_STREAM | END_HEADERS, id, &[])).expect("sound");
        }
        receive(&mut session, wire(kind::RST_STREAM, 0, id, &0_u32.to_be_bytes())).expect("sound");
        let (_, ended, told) = session.call(id).expect("under way");
        assert_eq!((ended, told), (true, reset), "answered: {answered}");
    }
}
