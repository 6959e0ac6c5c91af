"""The paper's listening test: people rate systems' sounds in a browser, and the results are mean opinion scores.

items      chooses the samples of a test and each listener's order
server     shows the test in a browser, with page.html
ratings    keeps the ratings and averages them
"""
