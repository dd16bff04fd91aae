"""What nginx's mail proxy asks before it passes a login on: at which node is the account (``auth_http``)?"""
