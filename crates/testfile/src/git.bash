#!/bin/bash
# `git` in the sandbox of a call of a test file, where there is no network. A clone into the directory of the clones becomes a
# request to the runner, which clones and calls the file again. Everything else is git itself.

if [[ ${1:-} == clone && -n ${ktest_git_requests:-} ]]; then
    words=()
    for word in "${@:2}"; do
        case $word in
        -q | --quiet | -v | --verbose | --progress | --recurse-submodules | --recursive | --) ;;
        -*)
            echo "fatal: git clone $word: on a farm only whole repositories are cloned, without options" >&2
            exit 128
            ;;
        *) words+=("$word") ;;
        esac
    done
    url=${words[0]:-}
    dir=${words[1]:-}
    [[ -n $dir ]] || { dir=${url%/} && dir=${dir##*/} && dir=${dir%.git}; }
    dir=$(realpath -m -- "$dir")
    deps=$(realpath -m -- "${ktest_deps_dir:-/}")
    if [[ -n $url && $dir == "$deps"/* && ! -e $dir ]]; then
        printf '%s\0%s\0' "$url" "${dir#"$deps"/}" >>"$ktest_git_requests"
        exit 75
    fi
fi
PATH=${PATH#/ktest/bin:}
exec git "$@"
