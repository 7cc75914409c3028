const RETRY_AFTER_MS = [500, 1000, 2000, 4000]
const REFUSALS = [400, 403, 404, 413, 415, 507]

// Kept outside the component: leaving the page and coming back finds the upload still running.
const uploads = (window.__prememUploads ??= new Map())

export default function ({ data, parentElement, setStateValue }) {
  const upload = uploads.get(data.ticket) ?? { state: "idle", note: "" }
  uploads.set(data.ticket, upload)
  upload.data = data
  upload.draw = () => draw(parentElement, upload)
  upload.report = () => {
    setStateValue("result", result(upload))
    upload.unreported = false
  }

  const find = selector => parentElement.querySelector(selector)
  const input = find(".input")
  const drop = find(".drop")
  find(".choose").onclick = () => input.click()
  input.onchange = () => {
    choose(upload, fromInput(input.files))
    input.value = ""
  }
  drop.ondragover = event => {
    event.preventDefault()
    drop.classList.add("over")
  }
  drop.ondragleave = () => drop.classList.remove("over")
  drop.ondrop = async event => {
    event.preventDefault()
    drop.classList.remove("over")
    choose(upload, await fromDrop(event.dataTransfer))
  }
  find(".pause").onclick = () => (upload.state === "uploading" ? pause(upload) : start(upload))
  find(".cancel").onclick = () => cancel(upload)
  window.onbeforeunload = event => {
    if ([...uploads.values()].some(other => other.state === "uploading")) event.preventDefault()
  }

  upload.draw()
  find(".upload").classList.add("ready")
  if (upload.unreported) upload.report()

  const view = upload.draw
  return () => {
    if (upload.draw !== view) return
    upload.draw = upload.report = null
  }
}

// -- what was chosen ------------------------------------------------------------------------------

function fromInput(list) {
  const files = [...list].map(file => {
    const [folder, ...rest] = file.webkitRelativePath.split("/")
    return { folder, path: rest.join("/"), file }
  })
  return { name: files[0]?.folder ?? "", files }
}

async function fromDrop(transfer) {
  // Entries must be taken before the first await; the browser empties the list after it.
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean)
  const folder = entries.find(entry => entry.isDirectory)
  if (entries.length !== 1 || !folder) return { name: "", files: [], note: "Drop one folder." }
  const files = []
  try {
    await collect(folder, "", files)
  } catch {
    return { name: "", files: [], note: "The folder could not be read: choose it with the button." }
  }
  return { name: folder.name, files }
}

async function collect(folder, prefix, files) {
  const reader = folder.createReader()
  for (;;) {
    // A reader gives a hundred entries at a time, and an empty list at the end.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))
    if (!entries.length) return
    for (const entry of entries) {
      const path = prefix + entry.name
      if (entry.isDirectory) await collect(entry, `${path}/`, files)
      else
        files.push({ path, file: await new Promise((yes, no) => entry.file(yes, no)) })
    }
  }
}

function isAccepted({ path }, kinds) {
  const hidden = path.split("/").some(part => part.startsWith("."))
  return !hidden && kinds.some(kind => path.toLowerCase().endsWith(kind))
}

function choose(upload, { name, files, note }) {
  if (!files.length && !note) return
  const kept = files.filter(item => isAccepted(item, upload.data.kinds))
  kept.sort((a, b) => (a.path < b.path ? -1 : 1))
  upload.skipped = files.length - kept.length
  if (!kept.length) {
    upload.note = note ?? `The folder ${name} holds no safetensors, JSON or tokenizer files.`
    upload.draw?.()
    return
  }
  Object.assign(upload, {
    name,
    note: "",
    files: kept.map(item => ({ ...item, sent: 0, done: false })),
    fingerprint: fingerprint(name, kept),
    bytes: kept.reduce((sum, item) => sum + item.file.size, 0),
  })
  start(upload)
}

// The same folder, chosen again, gives the same fingerprint and so continues where it stopped.
function fingerprint(name, files) {
  const text = JSON.stringify([
    name,
    files.map(({ path, file }) => [path, file.size, file.lastModified]),
  ])
  let [a, b] = [0xdeadbeef, 0x41c6ce57]
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 2654435761)
    b = Math.imul(b ^ text.charCodeAt(i), 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  return [a, b].map(part => (part >>> 0).toString(16).padStart(8, "0")).join("")
}

// -- sending --------------------------------------------------------------------------------------

async function start(upload) {
  const wasFailed = upload.state === "failed"
  const run = (upload.run = Symbol("run"))
  Object.assign(upload, { state: "uploading", message: "", samples: [] })
  upload.draw?.()
  if (wasFailed) report(upload)
  try {
    for (const item of upload.files) {
      if (!item.done) await sendFile(upload, run, item)
    }
    await persist(upload, run, () =>
      request(upload, "POST", { files: upload.files.length, bytes: upload.bytes })
    )
    if (upload.run === run) end(upload, "done", "")
  } catch (error) {
    if (upload.run === run) end(upload, "failed", error.message)
  }
}

async function sendFile(upload, run, item) {
  await persist(upload, run, async () => {
    take(item, await request(upload, "GET", { path: item.path }))
    while (!item.done && upload.run === run) {
      const slice = item.file.slice(item.sent, item.sent + upload.data.slice_bytes)
      const query = { path: item.path, offset: item.sent, total: item.file.size }
      take(item, await request(upload, "PUT", query, slice, sent => progress(upload, item, sent)))
      upload.attempt = 0
      upload.message = ""
      progress(upload, item, 0)
    }
  }, item)
  if (upload.run !== run) throw new Error("superseded")
}

function take(item, answer) {
  item.sent = answer.offset
  item.done = answer.done
  item.inFlight = 0
}

// After an error, the next attempt first asks the server how much of the file is stored.
async function persist(upload, run, work, item) {
  upload.attempt = 0
  while (upload.run === run) {
    try {
      return await work()
    } catch (error) {
      if (upload.run !== run) return undefined
      if (item) item.inFlight = 0
      if (REFUSALS.includes(error.status) || (!item && error.status)) throw error
      if (item && !(await readable(item.file)))
        throw new Error(`The file ${item.path} was changed or removed: choose the folder again.`)
      if (upload.attempt >= RETRY_AFTER_MS.length) throw error
      if (error.status !== 409) upload.message = "The connection broke; trying again."
      upload.draw?.()
      await new Promise(resolve => setTimeout(resolve, RETRY_AFTER_MS[upload.attempt++]))
    }
  }
  return undefined
}

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer()
    return true
  } catch {
    return false
  }
}

// XMLHttpRequest, because fetch does not report how much of a slice has been sent.
function request(upload, method, query, body, onSent) {
  return new Promise((resolve, reject) => {
    const xhr = (upload.xhr = new XMLHttpRequest())
    const parameters = new URLSearchParams({ folder: upload.fingerprint, ...query })
    xhr.open(method, `${upload.data.url}?${parameters}`)
    xhr.setRequestHeader(upload.data.ticket_header, upload.data.ticket)
    xhr.responseType = "json"
    if (onSent) xhr.upload.onprogress = event => onSent(event.loaded)
    xhr.onload = () => {
      if (xhr.status === 200) return resolve(xhr.response)
      const sentence = xhr.response?.error ?? `The server answered with error ${xhr.status}.`
      return reject(Object.assign(new Error(sentence), { status: xhr.status }))
    }
    xhr.onerror = xhr.onabort = () =>
      reject(new Error("The connection to Premem is lost; what was uploaded so far is kept."))
    xhr.send(body)
  })
}

function pause(upload) {
  upload.run = null
  upload.state = "paused"
  upload.xhr?.abort()
  upload.draw?.()
}

function cancel(upload) {
  pause(upload)
  const note = `Stopped. Choose ${upload.name} again to continue where it stopped.`
  Object.assign(upload, { state: "idle", files: [], note })
  report(upload)
  upload.draw?.()
}

function end(upload, state, message) {
  Object.assign(upload, { state, message })
  upload.draw?.()
  report(upload)
}

// -- what Python and the person see ---------------------------------------------------------------

function report(upload) {
  upload.unreported = true
  upload.report?.()
}

function result(upload) {
  if (upload.state !== "done" && upload.state !== "failed") return null
  return {
    ticket: upload.data.ticket,
    folder: upload.name,
    files_done: upload.files.filter(item => item.done).length,
    files_total: upload.files.length,
    bytes_done: sentBytes(upload),
    bytes_total: upload.bytes,
    skipped: upload.skipped,
    state: upload.state,
    message: upload.message,
  }
}

function sentBytes(upload) {
  return upload.files.reduce(
    (sum, item) => sum + Math.min(item.file.size, item.sent + (item.inFlight ?? 0)),
    0
  )
}

function progress(upload, item, inFlight) {
  item.inFlight = inFlight
  const now = performance.now()
  const samples = upload.samples
  samples.push([now, sentBytes(upload)])
  while (samples.length > 2 && now - samples[0][0] > 8000) samples.shift()
  if (inFlight && now - (upload.drawn ?? 0) < 100) return
  upload.drawn = now
  upload.draw?.()
}

function draw(root, upload) {
  const find = selector => root.querySelector(selector)
  const idle = upload.state === "idle"
  find(".drop").hidden = !idle
  find(".work").hidden = idle
  find(".hint").textContent =
    "Safetensors checkpoints with their config and tokenizer; other files are left out."
  find(".note").textContent = upload.note
  if (idle) return

  const sent = sentBytes(upload)
  const share = upload.bytes ? sent / upload.bytes : upload.state === "done" ? 1 : 0
  const percent = upload.state === "done" ? 100 : Math.min(99, Math.floor(share * 100))
  find(".work").className = `work ${upload.state}`
  find(".folder").textContent = upload.name
  find(".percent").textContent = `${percent} %`
  find(".fill").style.width = `${share * 100}%`
  find(".bar").setAttribute("aria-valuenow", percent)
  find(".bar").setAttribute("aria-valuetext", `${percent} %, ${detail(upload, sent)}`)
  find(".detail").textContent = detail(upload, sent)
  find(".message").textContent = upload.message
  find(".actions").hidden = upload.state === "done"
  const label = { uploading: "Pause", paused: "Resume", failed: "Continue" }[upload.state]
  find(".pause").textContent = label ?? ""
}

function detail(upload, sent) {
  const done = upload.files.filter(item => item.done).length
  const files = upload.files.length
  const skipped = upload.skipped ? `${counted(upload.skipped, "other file")} left out` : ""
  if (upload.state === "done")
    return joined([counted(files, "file"), size(upload.bytes), skipped])
  const part = `${done} of ${counted(files, "file")}`
  const amount = `${size(sent)} of ${size(upload.bytes)}`
  if (upload.state !== "uploading") return joined([part, amount, skipped])
  const rate = bytesPerSecond(upload.samples)
  const left = rate ? `${duration((upload.bytes - sent) / rate)} left` : ""
  return joined([part, amount, rate ? `${size(rate)}/s` : "", left, skipped])
}

function bytesPerSecond(samples) {
  if (samples.length < 2) return 0
  const [from, to] = [samples[0], samples[samples.length - 1]]
  return to[0] - from[0] < 500 ? 0 : Math.max(0, ((to[1] - from[1]) / (to[0] - from[0])) * 1000)
}

const joined = parts => parts.filter(Boolean).join(" · ")
const counted = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`

function size(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} KB`
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(2)} GB`
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
