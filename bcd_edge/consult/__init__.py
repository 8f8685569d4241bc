"""Opinions from readers elsewhere: as a page on a USB stick or in a mail, or by a link to one case.

`package` makes the page, in which nobody's name is; `opinion` files what comes back; `links` are signed, expire and can be revoked.

A page carries the list of its pictures, sealed with a secret of the journal, and a key of its own, by which it signs the opinion. So
an opinion on other pictures, of another clinic, or that was changed on its way is refused. Whoever has the page can give an opinion
under any name: it says so, and its source stays in the review.
"""
