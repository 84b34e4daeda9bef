// What the drivers do with strophe.js, in Node and in a browser; see ../README.md (talk_spec.lua).

export function drive({ Strophe, $msg, $pres }, args, say) {
  const { Status } = Strophe;
  let connection;
  let live = false;
  let ending = false;
  let room;
  let waiting = [];
  let number = 0;
  let timer;

  function comeAlive(...words) {
    say(...words);
    live = true;
    const lines = waiting;
    waiting = [];
    lines.forEach(obey);
  }

  // Reconnecting is the application's: connect() on the same object, which resumes. An attempt that fails may be told of twice.
  function again() {
    clearTimeout(timer);
    timer = setTimeout(() => connection.connect(args.jid, args.password, onStatus), 300);
  }

  function onStatus(status) {
    if (args.verbose) console.error("=", status);
    if (status === Status.CONNECTED) {
      // The library forgets its handlers with each connection.
      connection.addHandler(onMessage, null, "message");
      connection.addHandler(onPresence, null, "presence");
      if (connection.hasResumed()) {
        comeAlive("resumed");
      } else {
        connection.send($pres());
        comeAlive("ready", connection.jid);
      }
    } else if (status === Status.DISCONNECTED) {
      if (live) say("disconnected");
      live = false;
      if (ending) ending();
      else again();
    } else if (status === Status.AUTHFAIL) {
      say("failed", "authentication");
    }
  }

  function onMessage(stanza) {
    const body = Array.from(stanza.childNodes).find((child) => child.nodeName === "body")?.textContent;
    if (body) {
      const type = stanza.getAttribute("type");
      if (type === "error") say("bounced", body);
      else if (type === "groupchat") say("heard", stanza.getAttribute("from").split("/")[1], body);
      else say("message", body);
    }
    return true;
  }

  function onPresence(stanza) {
    const codes = Array.from(stanza.getElementsByTagName("status")).map((status) => status.getAttribute("code"));
    if (!stanza.getAttribute("type") && codes.includes("110")) say("joined", stanza.getAttribute("from").split("/")[1]);
    return true;
  }

  const commands = {
    join(to, nick) {
      room = to;
      connection.send($pres({ to: `${to}/${nick}` }).c("x", { xmlns: Strophe.NS.MUC }));
    },
    say: (body) => connection.send($msg({ to: room, type: "groupchat", id: `s${number += 1}` }).c("body").t(body)),
    tell: (to, body) => connection.send($msg({ to, type: "chat", id: `t${number += 1}` }).c("body").t(body)),
  };

  function obey(line) {
    if (!live) {
      waiting.push(line);
      return;
    }
    const [command, ...fields] = line.split("\t");
    commands[command](...fields);
  }

  connection = new Strophe.Connection(args.url, { enableStreamManagement: true });
  if (args.verbose) {
    connection.rawInput = (data) => console.error("<", data);
    connection.rawOutput = (data) => console.error(">", data);
  }
  connection.connect(args.jid, args.password, onStatus);
  return {
    obey,
    end(done) {
      ending = done;
      connection.disconnect();
    },
  };
}
