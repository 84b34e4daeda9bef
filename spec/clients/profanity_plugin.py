"""A plugin of profanity's that writes down what is shown, for profanity_talk.py."""

import os

import prof  # noqa: F401  (profanity's own; a plugin that does not import it is not loaded)

shown = open(os.environ["ENJAMB_SHOWN"], "a", buffering=1)


def tell(*fields):
    shown.write("\t".join(fields) + "\n")


def prof_on_connect(account, full_jid):
    tell("connected", full_jid)


def prof_post_chat_message_display(jid, resource, message):
    tell("message", message)


def prof_post_room_message_display(room, nick, message):
    tell("heard", nick, message)
