// What the day of Thunderbird uses of Thunderbird itself; runs in front of every script of day_thunderbird.py.

const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");

const POLL_MS = 20;

const server = MailServices.accounts.accounts[0].incomingServer;
const root = server.rootFolder;

// A url listener and the promise of its end; a url that fails rejects it.
function listening(start) {
  return new Promise((resolve, reject) => {
    start({
      OnStartRunningUrl() {},
      OnStopRunningUrl(_url, code) {
        if (Components.isSuccessCode(code)) {
          resolve(true);
        } else {
          reject(new Error(`failed with ${code.toString(16)}`));
        }
      },
    });
  });
}

// The same for copies and moves.
function copying(start) {
  return new Promise((resolve, reject) => {
    start({
      onStartCopy() {},
      onProgress() {},
      setMessageKey() {},
      getMessageId() {
        return null;
      },
      onStopCopy(code) {
        if (Components.isSuccessCode(code)) {
          resolve(true);
        } else {
          reject(new Error(`failed with ${code.toString(16)}`));
        }
      },
    });
  });
}

// Waits for a condition; Marionette's own time limit ends a wait in vain.
async function until(condition) {
  for (;;) {
    const value = condition();
    if (value) {
      return value;
    }
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

function folder(path) {
  let found = root;
  for (const name of path.split("/")) {
    found = name === "INBOX" ? root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox) : found.getChildNamed(name);
  }
  return found.QueryInterface(Ci.nsIMsgImapMailFolder);
}

// Opens a folder as a click on it does and waits until it shows exactly these messages. The update has no
// listener of ours: Thunderbird forgets it when an update of its own is already under way.
function opened(path, ...numbers) {
  folder(path).updateFolder(null);
  return until(() => String(shown(path)) === String(numbers));
}

function numberOf(header) {
  return Number(/day message (\d+)/.exec(header.mime2DecodedSubject)?.[1] ?? 0);
}

function headers(path, ...numbers) {
  const found = [...folder(path).messages].filter(
    header => !numbers.length || numbers.includes(numberOf(header))
  );
  if (numbers.length && found.length !== numbers.length) {
    throw new Error("not the messages that were asked for");
  }
  return found;
}

function shown(path) {
  return headers(path)
    .map(numberOf)
    .sort((one, other) => one - other);
}
