#!/bin/sh
sleep 1
printf 'Content-Type: text/plain\n\nslept\n'
