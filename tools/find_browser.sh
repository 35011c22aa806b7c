#!/bin/sh
# Print the path of a Chromium or Chrome that the tests of the page can drive:
#   tools/find_browser.sh [--install]
# CHROME_PATH names one elsewhere. With --install, root on a Debian or Ubuntu without one gets the package `chromium`.
find_browser() {
    for browser in "$CHROME_PATH" chromium chromium-browser google-chrome google-chrome-stable chrome microsoft-edge \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" "/Applications/Chromium.app/Contents/MacOS/Chromium"; do
        path=$(command -v "$browser" 2>/dev/null) && "$path" --version >/dev/null 2>&1 && echo "$path" && return
    done
    return 1
}

find_browser && exit
[ "$1" = --install ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 1
echo "installing the package chromium (the tests of the page drive a browser)" >&2
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 </dev/null
find_browser
