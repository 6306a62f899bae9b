#!/usr/bin/env python3
"""The page about a run in a browser: no error of its script, and nothing wider than the window, on a desk and on a phone.

  FAQ_TRAIN=build/faq-train FAQ_REPORT=build/faq-report tests/report_page_test.py [--screenshots FOLDER]

Needs Debian's chromium; without it the exit code is 77. Standard library only: the browser is told what to do over a pipe
(the DevTools protocol).
"""
import argparse
import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from run_files import write_png

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAIN = os.environ.get("FAQ_TRAIN", os.path.join(PROJECT, "build", "faq-train"))
REPORT = os.environ.get("FAQ_REPORT", os.path.join(PROJECT, "build", "faq-report"))
# What a page must not take for markup.
CLASSES = ["</script><img src=x onerror=alert(1)>".replace("/", "&#47;"), "\"quoted\" 'class'\nof two lines", "plain"]
SECTIONS = ["results", "curves", "layers", "classes", "mistakes", "run"]


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, program, folder):
        to_browser, self.out = os.pipe()
        self.into, from_browser = os.pipe()
        # It reads from descriptor 3 and writes to 4, whatever numbers the pipes have.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [program, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe",
                   "--user-data-dir=" + folder, "about:blank"]
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        self.process = subprocess.Popen(command, preexec_fn=place, close_fds=False, stderr=subprocess.DEVNULL)
        for end in (to_browser, from_browser, *high):
            os.close(end)
        self.rest = b""
        self.number = 0
        self.session = None
        self.faults = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(domain + ".enable")

    def receive(self):
        while b"\0" not in self.rest:
            part = os.read(self.into, 1 << 16)
            if not part:
                raise RuntimeError("the browser has ended")
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError("%s: %s" % (method, answer["error"]))
                return answer["result"]
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled",
                                        "Page.javascriptDialogOpening"):
                self.faults.append(json.dumps(answer["params"])[:400])

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)["result"].get("value")

    def open(self, file, width, scheme="light", script=True):
        self.faults = []
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url="file://" + file)
        for _ in range(300):
            if self.value("document.readyState === 'complete' && location.protocol === 'file:'"):
                break
            time.sleep(0.1)
        if script:  # curves are drawn when the first frame has given their places a width
            self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def screenshot(self, file, width):
        height = self.value("document.documentElement.scrollHeight")
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(data))

    def close(self):
        try:
            self.call("Browser.close")
        except (RuntimeError, OSError):
            pass
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def write_images(folder, training=45, validation=30):
    for i in range(training + validation):
        split, label = "train" if i < training else "val", i % len(CLASSES)
        write_png(os.path.join(folder, split, CLASSES[label], "%d<b>.png" % i), 70 * label + i, 16)


def train(data, output, *more):
    subprocess.run([TRAIN, "--model", "resnet20", "--data-path", data, "--output-dir", output, "--epochs", "2", "-b", "15",
                    "--threads", "1", "-j", "1", "--print-freq", "1", "--quiet", *more],
                   check=True, stdout=subprocess.DEVNULL)


def check(good, what):
    if not good:
        raise AssertionError(what)


def check_page(browser, file, sections, screenshots):
    name = os.path.basename(file).rsplit(".", 1)[0]
    for width in (1280, 375):
        for scheme in ("light", "dark"):
            what = "%s at %d px, %s" % (name, width, scheme)
            browser.open(file, width, scheme)
            check(not browser.faults, "%s: %s" % (what, browser.faults))
            overflow = browser.value("document.documentElement.scrollWidth - innerWidth")
            check(overflow <= 0, "%s: %s px wider than the window" % (what, overflow))
            shown = browser.value("[...document.querySelectorAll('section')].filter((s) => !s.hidden).map((s) => s.id)")
            check(shown == sections, "%s: sections %s" % (what, shown))
            check(browser.value("document.querySelectorAll('#curves svg').length") >= 4, what + ": curves")
            check(browser.value("document.querySelectorAll('.note').length") == 0, what + ": notes")
            check(browser.value("document.querySelectorAll('img:not([src^=\"data:image/jpeg;base64,\"])').length") == 0,
                  what + ": images of others")
            check(browser.value("document.querySelectorAll('b b, i b, td img').length") == 0, what + ": markup of others")
            if screenshots:
                browser.screenshot(os.path.join(screenshots, "%s-%d-%s.png" % (name, width, scheme)), width)


def check_layers(browser, file):
    browser.open(file, 1280)
    browser.value("document.querySelectorAll('#layers button')[3].click()")
    check(browser.value("document.querySelector('#panel > h3').textContent === "
                        "document.querySelectorAll('#layers button')[3].textContent"), "the panel is of another layer")
    check(browser.value("document.querySelectorAll('#panel svg').length") == 2, "histograms of a layer")
    check(browser.value("document.querySelectorAll('#layers tr.open').length") == 1, "one layer is open")
    check(browser.value("document.querySelector('#classes').textContent.includes('onerror')"), "names are shown as text")
    check(not browser.faults, browser.faults)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screenshots", metavar="FOLDER", help="leaves pictures of the pages here")
    given = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        print("skipped: no chromium (tools/install_deps.sh installs it where it is to be had)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data")
        write_images(data)
        first, second, pages = (os.path.join(folder, name) for name in ("float", "four-bits", "pages"))
        train(data, first, "--scheme", "none", "--lr", "0.05")
        train(data, second, "--scheme", "faq", "--bits", "4", "--lr", "0.001", "--calibration-batches", "1",
              "--weights", os.path.join(first, "best.safetensors"))
        os.mkdir(pages)
        run, runs = os.path.join(pages, "run.html"), os.path.join(pages, "runs.html")
        shutil.copy(os.path.join(second, "report.html"), run)
        subprocess.run([REPORT, first, second, "--output", runs], check=True, stdout=subprocess.DEVNULL)
        browser = Browser(program, os.path.join(folder, "browser"))
        try:
            mistakes = json.load(open(os.path.join(second, "report.json"), encoding="utf-8"))["mistakes"]
            check_page(browser, run, [name for name in SECTIONS if name != "mistakes" or mistakes], given.screenshots)
            check_page(browser, runs, ["results", "differences", "curves", "run"], given.screenshots)
            check_layers(browser, run)
            browser.open(run, 375, script=False)
            text = browser.call("DOM.getOuterHTML", nodeId=browser.call("DOM.getDocument")["root"]["nodeId"])["outerHTML"]
            for word in ("calibrated", "fine-tuned", "validation loss"):
                check(word in text, "without JavaScript: no %s" % word)
        finally:
            browser.close()
    print("the pages of %d runs: as they should be" % 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
